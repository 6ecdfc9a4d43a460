"""The RayCluster of a spec, and the part that RayJob and RayService share with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib import metadata
from typing import TYPE_CHECKING

from cluster.code import ROOT
from cluster.documents import Document, read_document
from cluster.kubernetes import names
from cluster.kubernetes.groups import HEAD_CPUS, HEAD_MEMORY, Group, groups
from cluster.kubernetes.growth import prices
from cluster.kubernetes.pods import fill_pod
from cluster.spec.clusters import POOL

if TYPE_CHECKING:
    from cluster.spec import Spec

FILES = ROOT / "k8s" / "documents"
# Ray's own key for the head's group; no pool can be called so, for it has a capital.
HEAD = "head"


def raycluster(spec: Spec) -> Document:
    """The standing cluster that ``up`` makes."""
    document = read_document(FILES / "raycluster.yaml")
    document["metadata"] = named(spec, spec.name)
    # `up` refuses to change a cluster of this name that belongs to another storage
    document["metadata"]["annotations"] = {
        names.STORAGE: spec.cluster.storage.url,
        **prices(spec, spec.cluster.pools),
    }
    document["spec"] = cluster_spec(spec, groups(spec))
    return document


def named(spec: Spec, name: str, queued: bool = True) -> Document:
    """An object's metadata: name, namespace, labels, and the queue it waits in."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    labels = names.labels(spec)
    if queued and provider.queue:
        labels[names.QUEUE] = provider.queue
    return {"name": name, "namespace": provider.namespace, "labels": labels}


def cluster_spec(
    spec: Spec,
    workers: Sequence[Group],
    extra: Mapping[str, str] | None = None,
    autoscale: bool | None = None,
) -> Document:
    """``RayCluster.spec`` with the given groups; ``extra`` labels go to every pod.

    A queue admits a fixed size: the autoscaler is off there, and each group is as large as it may
    become. Of groups that are alternatives to each other the first is taken.
    """
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    document: Document = read_document(FILES / "raycluster.yaml")["spec"]
    document["rayVersion"] = metadata.version("ray")
    document["authOptions"]["secretName"] = names.token_secret(spec)
    elastic = provider.queue is None if autoscale is None else autoscale
    document["enableInTreeAutoscaling"] = elastic
    head = document["headGroupSpec"]["template"]["spec"]
    head["automountServiceAccountToken"] = elastic  # nothing else there asks Kubernetes
    if elastic:
        options = document["autoscalerOptions"]
        options["idleTimeoutSeconds"] = round(spec.cluster.idle_timeout)
    else:
        del document["autoscalerOptions"]
        workers = _firsts(workers)
    labels = dict(extra or {})
    _fill_head(document["headGroupSpec"], spec, bool(workers), labels)
    template = document["workerGroupSpecs"][0]
    document["workerGroupSpecs"] = [
        _worker_group(template, spec, group, elastic, labels) for group in workers
    ]
    if spec.cluster.high_availability == "redis":
        document["gcsFaultToleranceOptions"] = _redis(spec)
    return document


def _fill_head(head: Document, spec: Spec, has_workers: bool, labels: dict[str, str]) -> None:
    wanted = spec.cluster.head
    cpus = wanted.cpus or HEAD_CPUS
    # Without pools there is only the head to work on.
    head["rayStartParams"]["num-cpus"] = "0" if has_workers else str(cpus)
    group = Group(HEAD, HEAD, cpus, wanted.memory or HEAD_MEMORY)
    head["template"] = fill_pod(head["template"], spec, group, labels)


def _worker_group(
    template: Document, spec: Spec, group: Group, elastic: bool, labels: dict[str, str]
) -> Document:
    document = deepcopy(template)
    least = group.least if elastic else group.most
    document |= {
        "groupName": group.name,
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": group.most,
        # Ray's labels, by which trainers and replicas find their pool.
        "labels": {POOL: group.pool},
        # Ray would count the whole machine's: CPUs have no limit.
        "rayStartParams": {"num-cpus": str(group.cpus)},
    }
    if elastic and group.priority:
        document["priority"] = group.priority
    document["template"] = fill_pod(document["template"], spec, group, labels)
    return document


def _firsts(workers: Sequence[Group]) -> list[Group]:
    """Of each pool's alternatives the first."""
    seen: dict[str, Group] = {}
    for group in workers:
        seen.setdefault(group.pool, group)
    return list(seen.values())


def _redis(spec: Spec) -> Document:
    name = names.redis(spec)
    return {
        "backend": "redis",
        "redisAddress": f"{name}:6379",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": name, "key": "password"}}},
    }
