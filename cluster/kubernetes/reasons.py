"""Why a cluster's pods wait or fail: one line of cause, one of remedy. Pure, from API objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.documents import Document
from cluster.kubernetes.causes import explain


@dataclass(frozen=True)
class Reason:
    """What keeps an object from running. ``what`` is a pod or a RayCluster by name."""

    what: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.cause}; {self.remedy}"


def reasons(
    pods: Iterable[Document],
    events: Sequence[Document],
    cluster: Document | None,
    workloads: Iterable[Document] = (),
) -> list[Reason]:
    """Why pods are not ready, the cluster is not made, or a queue does not admit it; each once."""
    found = [
        *_of_workloads(workloads),
        *(reason for pod in pods for reason in _of_pod(pod, events)),
        *_of_cluster(cluster, events),
    ]
    unique: dict[tuple[str, str], Reason] = {}
    for reason in found:
        unique.setdefault((reason.cause, reason.remedy), reason)
    return list(unique.values())


def _of_pod(pod: Document, events: Sequence[Document]) -> Iterator[Reason]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if _is_ready(status):
        return
    said = [*_container_messages(status), *_conditions(status), *_messages(events, "Pod", name)]
    for message in said:
        words = explain(message)
        if words:
            yield Reason(name, *words)
            return
    if said and status.get("phase") == "Pending":
        yield Reason(name, said[0][:200], f"kubectl describe pod {name} has the rest")


def _of_cluster(cluster: Document | None, events: Sequence[Document]) -> Iterator[Reason]:
    if cluster is None:
        return
    name, status = cluster["metadata"]["name"], cluster.get("status") or {}
    said = [*_messages(events, "RayCluster", name), str(status.get("reason") or "")]
    for message in filter(None, said):
        words = explain(message)
        if words:
            yield Reason(name, *words)
            return
    if not status and not said[:-1]:
        yield Reason(
            name,
            "no operator has looked at it",
            "is KubeRay running? kubectl get pods -A -l app.kubernetes.io/name=kuberay-operator",
        )


def _of_workloads(workloads: Iterable[Document]) -> Iterator[Reason]:
    for workload in workloads:
        for condition in workload.get("status", {}).get("conditions", []):
            if condition["type"] == "QuotaReserved" and condition["status"] != "True":
                words = explain(condition.get("message", ""))
                fallback = (condition.get("message", "")[:200], "kubectl describe workload")
                yield Reason(workload["metadata"]["name"], *(words or fallback))


def _container_messages(status: Document) -> Iterator[str]:
    for each in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        for state in (each.get("state", {}), each.get("lastState", {})):
            for kind in ("waiting", "terminated"):
                inside: Any = state.get(kind)
                if inside and inside.get("reason") not in ("ContainerCreating", "PodInitializing"):
                    text = f"{inside.get('reason', '')}: {inside.get('message', '')}"
                    if text not in (": ", "Completed: "):
                        yield text


def _conditions(status: Document) -> Iterator[str]:
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield condition.get("message", "")


def _messages(events: Sequence[Document], kind: str, name: str) -> list[str]:
    """Warnings of an object, the newest first."""
    of = [
        event
        for event in events
        if event.get("type") != "Normal"
        and event["involvedObject"].get("kind") == kind
        and event["involvedObject"].get("name") == name
    ]
    of.sort(key=lambda event: str(event.get("lastTimestamp") or ""), reverse=True)
    return [f"{event.get('reason', '')}: {event.get('message', '')}" for event in of]


def _is_ready(status: Document) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
