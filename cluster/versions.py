"""Client and cluster must run the same Ray under the same Python."""

from __future__ import annotations

from . import api, local
from .connection import ClusterError, Connection


def check_versions(connection: Connection) -> None:
    """Refuse a cluster that runs other versions than this process.

    Raises:
        UnreachableError: nothing answers there.
        ClusterError: the token is refused, or the versions differ.
    """
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
