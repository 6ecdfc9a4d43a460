"""Services that start from nothing, and what their first request waits for."""

from __future__ import annotations

from cluster.spec import Spec
from cluster.spec.clusters import Pool
from cluster.spec.serving import ServeSpec


def slow_starts(spec: Spec) -> dict[str, str]:
    """Model -> why its first request waits for a node, and what keeps it from that.

    A replica that sleeps starts in seconds where a node is up; a pool that may shrink to nothing
    has none, and a machine takes minutes.
    """
    found = {}
    for name, model in spec.models.items():
        serve = model.serve
        if serve is None or serve.replicas.min:
            continue
        pools = replica_pools(spec, serve)
        if pools and not any(pool.nodes.min for pool in pools):
            names = ", ".join(pool.name for pool in pools)
            found[name] = (
                f"the first request to {name} waits for a node: no replica is kept, and pool "
                f"{names} may have no nodes; set serve.replicas or nodes to 1..N"
            )
    return found


def replica_pools(spec: Spec, serve: ServeSpec) -> list[Pool]:
    """The pools that a replica may run in."""
    return [
        pool
        for pool in spec.cluster.pools
        if serve.pool in (None, pool.name) and (pool.accelerators or not serve.accelerators)
    ]
