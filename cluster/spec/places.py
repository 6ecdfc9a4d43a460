"""Which nodes take what."""

from collections.abc import Mapping, Sequence

from cluster.spec.clusters import POOL, ClusterSpec, Pool
from cluster.spec.models import ModelSpec
from cluster.spec.providers import Kubernetes


def on_pool(cluster: ClusterSpec, pool: str | None) -> dict[str, str]:
    """Labels of the nodes of a pool; none where nodes carry none, or where any pool will do."""
    labelled = cluster.provider.type not in ("local", "ray")
    return {POOL: pool} if pool and labelled else {}


def serving_pools(cluster: ClusterSpec, models: Mapping[str, ModelSpec]) -> tuple[Pool, ...]:
    """The pools that replicas may run in."""
    wanted = {model.serve.pool for model in models.values() if model.serve is not None}
    return tuple(pool for pool in cluster.pools if None in wanted or pool.name in wanted)


def off_head(cluster: ClusterSpec, pools: Sequence[Pool]) -> dict[str, str]:
    """Labels of the nodes for what shall outlive the head; none: it may as well be there.

    On Kubernetes a head may be replaced while its cluster goes on, and what ran on it is gone: so
    jobs' own processes and the services' front run in one of these pools that is always there, one
    without accelerators first. Elsewhere nothing outlives the head's machine, and a second machine
    would be one more that may fail.
    """
    lasting = [pool for pool in pools if pool.nodes.min and not pool.spot]
    if not isinstance(cluster.provider, Kubernetes) or not lasting:
        return {}
    return {POOL: min(lasting, key=lambda pool: bool(pool.accelerators)).name}
