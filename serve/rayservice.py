"""``serve`` and ``stop MODEL`` on Kubernetes: a RayService, on a cluster that runs do not touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.kubernetes import names as kubernetes_names
from cluster.kubernetes import serving
from cluster.kubernetes.applying import wait_ended
from cluster.kubernetes.client import Kube, connect
from cluster.kubernetes.rayservice import tokens_file
from cluster.request import Request
from serve.applications import FRONT, applications

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.spec import Spec


def deploy_rayservice(request: Request, spec: Spec, models: list[str], tokens: Path) -> str:
    """Bring these models up beside those that are served; returns how the address is reached.

    ``tokens`` is the clients' file on this machine, which the cluster's Secret is made from once.
    """
    kube = _kube(spec)
    kept = [name for name in serving.served(spec, kube) if name in spec.models]
    wait_ended(spec, kube, request.say)
    _apply(spec, kube, list(dict.fromkeys([*models, *kept])), tokens)
    if not request.detach:
        serving.wait(spec, kube, [FRONT, *models], request.say)
    return way(spec)


def stop_rayservice(spec: Spec, model: str, tokens: Path) -> bool:
    """End the service of a model, the RayService with the last; False where it is not served."""
    kube = _kube(spec)
    there = serving.served(spec, kube)
    if model not in there:
        return False
    left = [name for name in there if name not in (model, FRONT) and name in spec.models]
    if left:
        _apply(spec, kube, left, tokens)
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


def _apply(spec: Spec, kube: Kube, models: list[str], tokens: Path) -> None:
    serving.apply(
        spec, kube, applications(spec, models, tokens_file(spec)), tokens.read_text("utf-8")
    )


def _kube(spec: Spec) -> Kube:
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    return connect(provider)
