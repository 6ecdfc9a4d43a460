"""``up`` and ``down`` where the provider is Kubernetes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.connection import ClusterError
from cluster.kubernetes import applying, names
from cluster.kubernetes.applying import READY
from cluster.kubernetes.attaching import connection_to
from cluster.kubernetes.client import Kube, connect
from cluster.kubernetes.growth import bill, grows
from cluster.kubernetes.raycluster import raycluster
from cluster.request import Request, WrongRequestError
from cluster.verbs import check_idle

if TYPE_CHECKING:
    from cluster.spec import Spec


def up(request: Request, spec: Spec) -> None:
    """Apply what ``render`` prints, and wait until the head answers."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    kube = connect(provider)
    there = kube.get("RayCluster", spec.name)
    if grows(there, raycluster(spec)):
        asked = f"{spec.name} in namespace {provider.namespace}"
        costs = bill(spec, spec.cluster.pools)
        request.confirm(f"start {asked}: {costs}?" if there is None else f"{asked} grows: {costs}?")
    # --timeout rings for the whole command; what it waits for has been said by then
    applied = applying.up(spec, kube, request.say)
    known = "was up already; nothing changed"
    if applied.changed:
        known = f"is up; changed: {', '.join(applied.changed)}"
    request.answer(
        {
            "cluster": spec.name,
            "namespace": provider.namespace,
            "changed": list(applied.changed),
            "unchanged": list(applied.unchanged),
        },
        f"{spec.name} {known}\nits dashboard: kubectl -n {provider.namespace} port-forward "
        f"service/{spec.name}-head-svc 8265",
    )


def down(request: Request, spec: Spec) -> None:
    """End everything that carries the cluster's label; storage stays."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    kube = connect(provider)
    if not request.yes:
        _check_unused(spec, kube)
    ended = applying.down(spec, kube, request.say)
    text = f"{spec.name} is down: {', '.join(ended)}; storage stays"
    request.answer({"ended": ended}, text if ended else f"{spec.name} was not up; nothing to end")


def _check_unused(spec: Spec, kube: Kube) -> None:
    """Refuse to end runs that are under way and services in use, unless told."""
    found = [
        each["metadata"]["name"]
        for each in kube.find("RayJob", f"{names.CLUSTER}={spec.name}")
        if not (each.get("status") or {}).get("endTime")
    ]
    if found:
        raise WrongRequestError(
            f"under way: RayJob {', '.join(found)}; down -y ends all (a training resumes from its "
            "last checkpoint when it is asked for again)"
        )
    cluster = kube.get("RayCluster", spec.name) or {}
    ready = (cluster.get("status") or {}).get("state") == READY
    try:
        check_idle(connection_to(spec, kube, spec.name) if ready else None, spec)
    except ClusterError as error:
        raise WrongRequestError(
            f"whether it is in use cannot be told: {error}; down -y ends it all the same"
        ) from None
