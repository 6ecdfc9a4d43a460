"""Reach the cluster of a spec, whatever its provider; for `provider: ray`, one that others run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import local
from .api import UnreachableError
from .connection import ClusterError, Connection
from .home import Report
from .versions import check_versions

if TYPE_CHECKING:
    from .spec import Spec

# What Ray's cluster launcher makes.
LAUNCHED = ("onprem", "aws", "gcp", "azure")


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
    found = connect_existing(spec)
    if found is None:  # it may cost money: never by itself
        raise ClusterError(f"{spec.name} is not up; slipway up starts it")
    return found


def connect_existing(spec: Spec) -> Connection | None:
    """A connection to the spec's cluster; None if it is not up, as far as this machine knows."""
    kind = spec.cluster.provider.type
    if kind == "local":
        return local.find(spec)
    if kind in LAUNCHED:
        from .launcher.attaching import find

        return find(spec)
    if kind == "kubernetes":
        from .kubernetes.attaching import find as find_there

        return find_there(spec)
    return attach(spec)


def connect_if_reached(spec: Spec, report: Report) -> Connection | None:
    """A connection where one can be had: what storage knows is shown all the same."""
    try:
        return connect_existing(spec)
    except UnreachableError as error:
        report(f"note: the cluster is out of reach, so this is what the storage knows: {error}")
        return None


def connect_services(spec: Spec, connection: Connection | None) -> Connection | None:
    """The cluster that serves, where the spec's is ``connection``; None if there is none.

    On Kubernetes services have a cluster of their own.
    """
    if spec.cluster.provider.type != "kubernetes":
        return connection
    from .kubernetes.served import find_services

    return find_services(spec)


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
    check_versions(connection)
    return connection
