"""Why a cluster's pods wait or fail: one line of cause, one of remedy, from API objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.documents import Document
from cluster.kubernetes.causes import explain

STEPS = {
    "FailedScheduling": 1,
    "NotTriggerScaleUp": 1,
    "Scheduled": 2,
    "FailedAttachVolume": 2,
    "FailedMount": 2,
    "FailedCreatePodSandBox": 3,
    "Pulling": 4,
    "Failed": 4,
    "Pulled": 5,
    "Created": 6,
    "Started": 7,
}
"""How far a pod has come, by its events' reasons."""
LOOKED_AT_S = 20.0
"""An operator that is there writes a status sooner."""


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
    clusters: Iterable[Document] = (),
    workloads: Iterable[Document] = (),
) -> list[Reason]:
    """Why pods are not ready, clusters are not made, or a queue does not admit one; each once."""
    found = [
        *_of_workloads(workloads),
        *(reason for pod in pods for reason in _of_pod(pod, events)),
        *(reason for cluster in clusters for reason in _of_cluster(cluster, events)),
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


def _of_cluster(cluster: Document, events: Sequence[Document]) -> Iterator[Reason]:
    name, status = cluster["metadata"]["name"], cluster.get("status") or {}
    conditions = status.get("conditions") or []
    refused = list(_refused(conditions))
    said = [*refused, str(status.get("reason") or "")]
    if not conditions:  # of pods that were refused they say whether it is over; events do not
        said = [*_messages(events, "RayCluster", name), *said]
    for message in filter(None, said):
        words = explain(message)
        if words:
            yield Reason(name, *words)
            return
    if refused:
        space = cluster["metadata"].get("namespace")
        of = f"kubectl {f'-n {space} ' if space else ''}describe raycluster {name}"
        yield Reason(name, refused[0][:200], f"{of} has the rest")
    if not status and not said[:-1] and _age_s(cluster) > LOOKED_AT_S:
        yield Reason(
            name,
            "no operator has looked at it",
            "is KubeRay running? kubectl get pods -A -l app.kubernetes.io/name=kuberay-operator",
        )


def _age_s(document: Document) -> float:
    made = document["metadata"].get("creationTimestamp")
    if made is None:
        return float("inf")
    return (datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds()


def _refused(conditions: Iterable[Document]) -> Iterator[str]:
    """Why the operator could not make or end a pod, while it cannot."""
    for condition in conditions:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            # the operator's own word and what it was told stand on lines of their own
            yield " ".join(str(condition.get("message") or condition.get("reason", "")).split())


def _of_workloads(workloads: Iterable[Document]) -> Iterator[Reason]:
    for workload in workloads:
        for condition in workload.get("status", {}).get("conditions", []):
            if condition["type"] == "QuotaReserved" and condition["status"] != "True":
                words = explain(condition.get("message", ""))
                fallback = (condition.get("message", "")[:200], "kubectl describe workload")
                yield Reason(workload["metadata"]["name"], *(words or fallback))


def _container_messages(status: Document) -> Iterator[str]:
    for each in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        # what ended it last is the cause of a back-off now
        for state in (each.get("lastState", {}), each.get("state", {})):
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
    """Warnings of an object that are not over, the newest first."""
    of = [
        event
        for event in events
        if event["involvedObject"].get("kind") == kind
        and event["involvedObject"].get("name") == name
    ]
    of.sort(key=_time, reverse=True)
    return [
        f"{event.get('reason', '')}: {event.get('message', '')}"
        for event in of
        if _tells(event) and not _is_over(event, of)
    ]


def _tells(event: Document) -> bool:
    return event.get("type") != "Normal" or event.get("reason") == "NotTriggerScaleUp"


def _is_over(event: Document, others: Sequence[Document]) -> bool:
    """Whether the pod has come further since: events stay for an hour after what they say."""
    step = STEPS.get(event.get("reason", ""))
    return step is not None and any(
        STEPS.get(other.get("reason", ""), 0) > step and _time(other) >= _time(event)
        for other in others
    )


def _time(event: Document) -> str:
    """When it was last seen, in ISO 8601; the scheduler writes its events in the newer form."""
    series = event.get("series") or {}
    return str(
        event.get("lastTimestamp")
        or series.get("lastObservedTime")
        or event.get("eventTime")
        or (event.get("metadata") or {}).get("creationTimestamp")
        or ""
    )


def _is_ready(status: Document) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
