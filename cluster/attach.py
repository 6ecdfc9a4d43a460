"""Reach the cluster of a spec, whatever its provider; for `provider: ray`, one that others run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import api, local
from .connection import ClusterError, Connection
from .home import Report

if TYPE_CHECKING:
    from .spec import Spec


def connect(spec: Spec, report: Report = lambda message: None) -> Connection:
    """A connection to the spec's cluster; a local one is started if it is not up.

    Raises:
        ClusterError: it cannot be started or reached, or runs other versions than this process.
    """
    kind = spec.cluster.provider.type
    if kind == "local":
        return local.start(spec, report)
    if kind == "ray":
        return attach(spec)
    raise ClusterError(f"provider {kind!r} is not available in this version; use local or ray")


def connect_existing(spec: Spec) -> Connection | None:
    """A connection to the spec's cluster; None if it is a local one that is not up."""
    return local.find(spec) if spec.cluster.provider.type == "local" else connect(spec)


def attach(spec: Spec) -> Connection:
    """A connection to the cluster at `cluster.provider.address`.

    Raises:
        UnreachableError: nothing answers there.
        ClusterError: the token is refused, or the versions differ.
    """
    provider = spec.cluster.provider
    assert provider.type == "ray"
    address = provider.address.rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise ClusterError(
            f"cluster.provider.address: {address} must be the dashboard's, such as http://HOST:8265"
        )
    token_path = None
    if provider.token is not None:
        from .secrets import resolve, secrets_folder

        resolve(provider.token)
        token_path = secrets_folder() / str(provider.token)
    connection = Connection(spec.name, "", address, token_path)
    _check_versions(connection)
    return connection


def _check_versions(connection: Connection) -> None:
    found = api.get(connection, "/api/v0/cluster_metadata")["data"]
    theirs = local.Versions(
        str(found.get("rayVersion", "?")), ".".join(str(found.get("pythonVersion")).split(".")[:2])
    )
    own = local.own_versions()
    if theirs != own:
        raise ClusterError(
            f"the cluster at {connection.api_url} runs Ray {theirs.ray} on Python {theirs.python}, "
            f"but this is Ray {own.ray} on Python {own.python}; install slipway under Python "
            f"{theirs.python} with ray=={theirs.ray}, or bring the cluster to Ray {own.ray}"
        )
