"""``up`` and ``down`` on Kubernetes: applies what was rendered, waits, and says why it waits."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.connection import ClusterError
from cluster.documents import Document
from cluster.kubernetes import names
from cluster.kubernetes.client import Kube
from cluster.kubernetes.documents import documents, warnings
from cluster.kubernetes.environment import secret_names, services_tokens
from cluster.kubernetes.reasons import Reason, reasons
from cluster.kubernetes.stale import stale

if TYPE_CHECKING:
    from cluster.spec import Spec

Report = Callable[[str], None]
READY = "ready"
LOOK_EVERY_S = 1.0
ENDED_S = 300.0
"""Pods have 180 s for their last checkpoint."""
# Ended in this order: what serves and runs first, what closes the pods last.
RAY = ("RayService", "RayJob", "RayCluster")
ENDED = (
    *RAY,
    "StatefulSet",
    "Service",
    "PersistentVolumeClaim",
    "ConfigMap",
    "NetworkPolicy",
)


@dataclass(frozen=True)
class Applied:
    """What ``up`` did: names of objects, as KIND/NAME."""

    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


def up(spec: Spec, kube: Kube, report: Report, timeout_s: float | None = None) -> Applied:
    """Make or finish the cluster, and wait until its head answers.

    A half-made one is finished; done twice it changes nothing. Raises ClusterError with the reason,
    after ``timeout_s`` with what it waits for.
    """
    check(spec, kube)
    for line in warnings(spec):
        report(f"note: {line}")
    wait_ended(spec, kube, report)
    for secret in made_secrets(spec):
        kube.create(secret)
    changed: list[str] = []
    unchanged: list[str] = []
    before = kube.get("RayCluster", spec.name)
    for document in documents(spec):
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == "RayCluster":
            keep_scale(document, before)
        (changed if kube.apply(document) else unchanged).append(name)
    _tell_stale(spec, kube, before, report)
    wait(spec, kube, report, timeout_s)
    return Applied(tuple(changed), tuple(unchanged))


def keep_scale(document: Document, there: Document | None) -> None:
    """Leave the number of workers to the autoscaler, within what the spec now allows.

    It writes replicas and the pods to end into the same list that we apply.
    """
    if there is None or not document["spec"]["enableInTreeAutoscaling"]:
        return
    live = {group["groupName"]: group for group in there["spec"].get("workerGroupSpecs", [])}
    for group in document["spec"]["workerGroupSpecs"]:
        before = live.get(group["groupName"], {})
        now = before.get("replicas", group["replicas"])
        group["replicas"] = min(max(now, group["minReplicas"]), group["maxReplicas"])
        if "scaleStrategy" in before:
            group["scaleStrategy"] = before["scaleStrategy"]


def _tell_stale(spec: Spec, kube: Kube, before: Document | None, report: Report) -> None:
    """Say which pods keep what they were made with."""
    pods = kube.find("Pod", f"ray.io/cluster={spec.name}")
    found = stale(before, kube.get("RayCluster", spec.name), pods)
    if found:
        report(
            f"note: pods that are there keep the old settings ({', '.join(found)}): KubeRay makes "
            "only new ones by the new; slipway down, then slipway up, when nothing runs"
        )


def check(spec: Spec, kube: Kube) -> None:
    """What must be there before anything is made: the namespace, the operator, the secrets."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    if not kube.has_namespace():
        raise ClusterError(
            f"there is no namespace {provider.namespace}; make it with its quota and rights: "
            "kubectl apply -k k8s/overlays/laptop (or one of your own, see k8s/README.md)"
        )
    there = kube.get("RayCluster", spec.name)
    if there is not None:
        check_same(spec, there)
    missing = []
    for name, keys in sorted(secret_names(spec).items()):
        found = kube.keys_of_secret(name)
        if found is None:
            missing.append(f"Secret {name} with {', '.join(sorted(keys))}")
        elif keys - found:
            missing.append(f"key {', '.join(sorted(keys - found))} of Secret {name}")
    if missing:
        raise ClusterError(
            f"missing in namespace {provider.namespace}: {'; '.join(missing)}; "
            "kubectl create secret generic NAME --from-file=KEY=FILE"
        )


def made_secrets(spec: Spec) -> list[Document]:
    """Secrets that are made where they are absent: fresh random tokens, never printed."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    wanted = {} if provider.token else {names.token_secret(spec): "auth_token"}
    if spec.cluster.high_availability == "redis":
        wanted[names.redis(spec)] = "password"
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": names.labels(spec)},
            "stringData": {key: secrets.token_hex(32)},
        }
        for name, key in wanted.items()
    ]


def wait(spec: Spec, kube: Kube, report: Report, timeout_s: float | None) -> None:
    """Wait until the RayCluster is ready; a new reason for waiting is reported once."""
    deadline = time.monotonic() + (1800.0 if timeout_s is None else timeout_s)
    told: set[Reason] = set()
    while True:
        cluster = kube.get("RayCluster", spec.name)
        if (cluster or {}).get("status", {}).get("state") == READY:
            return
        found = why(spec, kube)
        for reason in found:
            if reason not in told:
                told.add(reason)
                report(f"waiting: {reason}")
        left = deadline - time.monotonic()
        if left <= 0:
            causes = "\n  ".join(map(str, found)) or "its head is still starting: slipway status"
            raise ClusterError(f"{spec.name} is not ready in time:\n  {causes}")
        # wakes when the operator writes a status, and now and then for events of pods
        next(iter(kube.watch("RayCluster", spec.name, min(left, 5.0))), None)
        time.sleep(min(max(left, 0.0), 0.2))


def wait_ended(spec: Spec, kube: Kube, report: Report) -> None:
    """Wait until what an earlier ``down`` is ending has gone: it would take with it what is made.

    Raises ClusterError after the longest that pods may take to end.
    """
    deadline, told = time.monotonic() + ENDED_S, False
    while found := [
        f"{kind}/{each['metadata']['name']}"
        for kind, selector in _selectors(spec)
        for each in kube.find(kind, selector)
        if each["metadata"].get("deletionTimestamp")
    ]:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"still ending after {ENDED_S:.0f} s: {', '.join(found)}; kubectl describe says why"
            )
        if not told:
            report(f"waiting: {', '.join(found)} of before has to end first")
            told = True
        time.sleep(LOOK_EVERY_S)


def _selectors(spec: Spec) -> list[tuple[str, str]]:
    """(kind, labels) of what is made; volumes have those of the StatefulSet that they are for."""
    own, state = f"{names.CLUSTER}={spec.name}", f"{names.STATE}={spec.name}"
    return [(kind, state if kind == "PersistentVolumeClaim" else own) for kind in ENDED]


def why(spec: Spec, kube: Kube) -> list[Reason]:
    """Why the pods of the cluster or of its services wait, or why a queue does not admit them.

    Raises ClusterError where a queue is named and there is no Kueue.
    """
    selector = f"{names.CLUSTER}={spec.name}"
    clusters = kube.find("RayCluster", selector)
    workloads = _workloads(spec, kube, {each["metadata"]["name"] for each in clusters})
    return reasons(kube.find("Pod", selector), kube.find("Event"), clusters, workloads)


def _workloads(spec: Spec, kube: Kube, clusters: set[str]) -> list[Document]:
    """What Kueue made of the clusters to queue them by."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    if provider.queue is None:
        return []
    return [
        each
        for each in kube.find("Workload")
        if any(
            owner.get("kind") == "RayCluster" and owner.get("name") in clusters
            for owner in each["metadata"].get("ownerReferences", ())
        )
    ]


def down(spec: Spec, kube: Kube, report: Report) -> list[str]:
    """End everything that carries the cluster's label, what an interrupted ``up`` made too.

    Storage stays: it is none of the cluster's. Returns KIND/NAME of what was ended.
    """
    ended = []
    for kind, selector in _selectors(spec):
        if kind not in RAY and kube.find("StatefulSet", f"{names.CLUSTER}={spec.name}"):
            _wait_cleared(spec, kube, report)
        for each in kube.find(kind, selector):
            name = each["metadata"]["name"]
            owned = "ownerReferences" in each["metadata"]
            if not owned and kube.delete(kind, name):
                ended.append(f"{kind}/{name}")
    return ended + _end_secrets(spec, kube, report)


def _wait_cleared(spec: Spec, kube: Kube, report: Report) -> None:
    """Wait until the operator has cleared Redis, without which its clusters would not end."""
    deadline, told = time.monotonic() + ENDED_S, False
    while kube.find("RayCluster", f"{names.CLUSTER}={spec.name}") and time.monotonic() < deadline:
        if not told:
            report("waiting: the operator ends the pods and clears the head's state")
            told = True
        time.sleep(LOOK_EVERY_S)


def _end_secrets(spec: Spec, kube: Kube, report: Report) -> list[str]:
    """By name, for who may read some Secrets may list none; one of somebody else's stays."""
    ended = []
    for name in (names.token_secret(spec), names.redis(spec), services_tokens(spec).name):
        try:
            labels = ((kube.get("Secret", name) or {}).get("metadata") or {}).get("labels") or {}
            if labels.get(names.CLUSTER) == spec.name and kube.delete("Secret", name):
                ended.append(f"Secret/{name}")
        except ClusterError as error:
            report(f"the Secret {name} stays: {error}")
    return ended


def check_same(spec: Spec, there: Document) -> None:
    """Refuse another's cluster of the same name."""
    metadata = there["metadata"]
    storage = metadata.get("annotations", {}).get(names.STORAGE)
    if metadata.get("labels", {}).get(names.CLUSTER) != spec.name:
        raise ClusterError(
            f"the namespace has a RayCluster {spec.name} that slipway did not make; "
            "choose another name: or another namespace"
        )
    if storage is not None and storage != spec.cluster.storage.url:
        raise ClusterError(
            f"a cluster {spec.name} is there already, with its storage at {storage}; choose "
            "another name: or namespace, or end that one with its own file"
        )
