"""``serve`` and ``stop MODEL`` on Kubernetes: a RayService, on a cluster that runs do not touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.kubernetes import names as kubernetes_names
from cluster.kubernetes import serving
from cluster.kubernetes.applying import wait_ended
from cluster.kubernetes.client import Kube, connect
from cluster.kubernetes.growth import bill, grows
from cluster.kubernetes.rayservice import rayservice, tokens_file
from cluster.request import Request
from cluster.spec.places import serving_pools
from serve.applications import FRONT, applications

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.documents import Document
    from cluster.spec import Spec


def deploy_rayservice(request: Request, spec: Spec, models: list[str], tokens: Path) -> str:
    """Bring these models up beside those that are served; returns how the address is reached.

    Asks first where nodes or their price rise. ``tokens`` is the clients' file on this machine,
    which the cluster's Secret is made from once.
    """
    kube = _kube(spec)
    kept = [name for name in serving.served(spec, kube) if name in spec.models]
    wanted = applications(spec, list(dict.fromkeys([*models, *kept])), tokens_file(spec))
    _ask(request, spec, kube, wanted)
    wait_ended(spec, kube, request.say)
    serving.apply(spec, kube, wanted, tokens.read_text("utf-8"))
    if not request.detach:
        serving.wait(spec, kube, [FRONT, *models], request.say)
    return way(spec)


def stop_rayservice(request: Request, spec: Spec, model: str, tokens: Path) -> bool:
    """End the service of a model, the RayService with the last; False where it is not served.

    The others are on the nodes that the spec now says: asks first where these rise.
    """
    kube = _kube(spec)
    there = serving.served(spec, kube)
    if model not in there:
        return False
    left = [name for name in there if name not in (model, FRONT) and name in spec.models]
    if left:
        wanted = applications(spec, left, tokens_file(spec))
        _ask(request, spec, kube, wanted)
        serving.apply(spec, kube, wanted, tokens.read_text("utf-8"))
    else:
        serving.end(spec, kube)
    return True


def way(spec: Spec) -> str:
    """What to type for the services to be at the spec's address on this machine."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    service = f"service/{kubernetes_names.services(spec)}-serve-svc"
    port = spec.services.port
    return f"kubectl -n {provider.namespace} port-forward {service} {port}:{port}"


def _ask(request: Request, spec: Spec, kube: Kube, wanted: list[Document]) -> None:
    """Ask before the services' own cluster is made, or gets more or dearer nodes."""
    there = kube.get(serving.KIND, kubernetes_names.services(spec))
    if grows(there, rayservice(spec, wanted)):
        asked = f"the services of {spec.name} in namespace {kube.namespace}"
        costs = bill(spec, serving_pools(spec.cluster, spec.models))
        request.confirm(f"start {asked}: {costs}?" if there is None else f"{asked} grow: {costs}?")


def _kube(spec: Spec) -> Kube:
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    return connect(provider)
