"""Reach the services on Kubernetes: the head of their cluster, and a pod that answers requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.connection import ClusterError, Connection
from cluster.kubernetes import names
from cluster.kubernetes.attaching import connection_to
from cluster.kubernetes.client import Kube, connect
from cluster.kubernetes.forwarding import Forward
from cluster.kubernetes.serving import KIND

if TYPE_CHECKING:
    import socket

    from cluster.spec import Spec

TAKES_REQUESTS = "ray.io/serve=true"
_FORWARDS: dict[tuple[str, str, str], Forward] = {}


def find_services(spec: Spec) -> Connection | None:
    """The cluster whose services take the requests; None where none do.

    Raises ClusterError where it cannot be reached.
    """
    kube = _kube(spec)
    cluster = _active(spec, kube)
    return connection_to(spec, kube, cluster) if cluster else None


def services_url(spec: Spec) -> str:
    """Where this process reaches the services, by the Kubernetes API.

    Raises ClusterError where none take requests.
    """
    kube = _kube(spec)
    cluster = _active(spec, kube)
    if not cluster or not _pods(kube, cluster):
        raise ClusterError(f"no services of {spec.name} take requests in {kube.namespace}")
    key = kube.server, kube.namespace, cluster
    if key not in _FORWARDS:
        _FORWARDS[key] = Forward(lambda: _dial(spec, kube, cluster))
    return _FORWARDS[key].url


def _active(spec: Spec, kube: Kube) -> str:
    service = kube.get(KIND, names.services(spec)) or {}
    active = (service.get("status") or {}).get("activeServiceStatus") or {}
    return str(active.get("rayClusterName") or "")


def _pods(kube: Kube, cluster: str) -> list[str]:
    found = kube.find("Pod", f"ray.io/cluster={cluster},{TAKES_REQUESTS}")
    return [
        pod["metadata"]["name"] for pod in found if pod.get("status", {}).get("phase") == "Running"
    ]


def _dial(spec: Spec, kube: Kube, cluster: str) -> socket.socket:
    pods = _pods(kube, cluster)
    if not pods:
        raise ClusterError(f"no pod of {cluster} takes requests any more")
    return kube.dial(pods[-1], spec.services.port)


def _kube(spec: Spec) -> Kube:
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    return connect(provider)
