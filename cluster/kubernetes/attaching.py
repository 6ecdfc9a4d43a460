"""Reach a RayCluster: its head's job API by port-forward, with the token of its Secret."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from cluster.connection import ClusterError, Connection
from cluster.home import Home
from cluster.kubernetes import names
from cluster.kubernetes.applying import READY, check_same, why
from cluster.kubernetes.client import Kube, connect
from cluster.kubernetes.forwarding import Forward
from cluster.versions import check_versions

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.spec import Spec

DASHBOARD = 8265
HEAD = "ray.io/node-type=head"
_FORWARDS: dict[tuple[str, str, str], Forward] = {}


def find(spec: Spec) -> Connection | None:
    """The spec's standing cluster; None where there is none.

    Raises:
        UnreachableError: the API or the head does not answer.
        ClusterError: it is not ready, is another's, or runs other versions than this process.
    """
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    kube = connect(provider)
    cluster = kube.get("RayCluster", spec.name)
    if cluster is None:
        return None
    check_same(spec, cluster)
    if cluster.get("status", {}).get("state") != READY:
        causes = "\n  ".join(map(str, why(spec, kube))) or "its head is still starting"
        raise ClusterError(f"{spec.name} is not ready:\n  {causes}")
    return connection_to(spec, kube, spec.name)


def connection_to(spec: Spec, kube: Kube, cluster: str) -> Connection:
    """The way to the head of a RayCluster of the spec."""
    token = keep_token(spec, kube)
    forward = _FORWARDS.get((kube.server, kube.namespace, cluster))
    if forward is None:
        # seconds on a busy machine, in which the first request would wait for its answer
        import_module("kubernetes.stream")
        forward = Forward(lambda: dial(kube, cluster))
        _FORWARDS[kube.server, kube.namespace, cluster] = forward
    connection = Connection(spec.name, "", forward.url, token, renew=forward.check)
    check_versions(connection)
    return connection


def standing_way(spec: Spec, connection: Connection) -> tuple[Connection, str]:
    """The same cluster for other programs, and what to type so that its address leads there."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    way = f"kubectl -n {provider.namespace} port-forward service/{spec.name}-head-svc {DASHBOARD}"
    return replace(connection, api_url=f"http://127.0.0.1:{DASHBOARD}"), way


def dial(kube: Kube, cluster: str) -> socket.socket:
    """A connection to the dashboard of a RayCluster's head."""
    pods = kube.find("Pod", f"ray.io/cluster={cluster},{HEAD}")
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
    if not running:
        raise ClusterError(
            f"the head of {cluster} has no running pod; kubectl -n {kube.namespace} get pods "
            f"-l ray.io/cluster={cluster}, or slipway up, which says why it waits"
        )
    return kube.dial(running[-1]["metadata"]["name"], DASHBOARD)


def keep_token(spec: Spec, kube: Kube) -> Path:
    """The token of Ray, from its Secret into a file of mode 0600: never on a command line."""
    home = Home(f"{spec.name}-kubernetes-{kube.namespace}", kube.server)
    home.create()
    value = kube.value_of_secret(names.token_secret(spec), "auth_token")
    with contextlib.suppress(OSError):
        if home.token.read_text() == value and home.token.stat().st_mode & 0o077 == 0:
            return home.token
    draft = home.folder / f"token.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
    return draft.replace(home.token)
