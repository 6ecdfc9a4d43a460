"""How many workers a cluster can hold."""

import os
from collections.abc import Sequence
from typing import Literal

from cluster.spec.clusters import ClusterSpec, Pool
from cluster.spec.providers import AWS, GCP, Azure, Kubernetes, Local
from cluster.spec.train import TrainSpec


def usable_pools(cluster: ClusterSpec, train: TrainSpec) -> tuple[Pool, ...]:
    """The pools that a model's workers may run in."""
    return tuple(pool for pool in cluster.pools if train.pool in (None, pool.name))


def has_accelerators(pools: Sequence[Pool]) -> bool:
    """Whether any of the pools has accelerators."""
    return any(pool.accelerators for pool in pools)


def resolve_precision(cluster: ClusterSpec, train: TrainSpec) -> Literal["fp32", "bf16", "fp16"]:
    """``train.precision`` with ``auto`` decided."""
    if train.precision != "auto":
        return train.precision
    return "bf16" if has_accelerators(usable_pools(cluster, train)) else "fp32"


def sharing(train: TrainSpec) -> int:
    """Workers that one accelerator holds."""
    return int(1 / train.accelerator_share + 1e-9)


def worker_slots(cluster: ClusterSpec, train: TrainSpec, cpus: float | None = None) -> int | None:
    """The most workers that the cluster can ever hold; None where the file does not say.

    ``cpus`` are those of each worker, the file's by default.
    """
    pools = usable_pools(cluster, train)
    if cpus is None:
        cpus = 1.0 if train.cpus_per_worker == "auto" else float(train.cpus_per_worker)
    if has_accelerators(pools):
        return sum(
            pool.nodes.max
            * max((each.count for each in pool.accelerators), default=0)
            * sharing(train)
            for pool in pools
        )
    if any(pool.cpus for pool in pools):
        return sum(pool.nodes.max * int((pool.cpus or 0) / cpus) for pool in pools)
    if cluster.pools:
        return None
    if isinstance(cluster.provider, Local):
        return int((cluster.head.cpus or os.cpu_count() or 1) / cpus)
    if isinstance(cluster.provider, Kubernetes | AWS | GCP | Azure):
        return int((cluster.head.cpus or 0) / cpus)
    return None


def share_of_cpus(cluster: ClusterSpec, train: TrainSpec, workers: int) -> int:
    """CPUs for each of so many workers under ``cpus_per_worker: auto``.

    As many as let all of them find room, a node each or several on one; 1 where accelerators
    decide how many there are, or the file does not say what the nodes have.
    """
    pools = usable_pools(cluster, train)
    slots = None if has_accelerators(pools) else worker_slots(cluster, train, 1.0)
    if slots is None:
        return 1
    most = min(slots // workers, max((pool.cpus or 0 for pool in pools), default=slots))
    fitting = (c for c in range(most, 1, -1) if (worker_slots(cluster, train, c) or 0) >= workers)
    return next(fitting, 1)


def worker_sizes(train: TrainSpec) -> tuple[int, ...]:
    """The numbers of workers allowed by ``workers`` that share ``global_batch`` evenly."""
    micro = 1 if train.micro_batch == "auto" else train.micro_batch
    most = min(train.workers.max, train.global_batch)
    sizes = range(train.workers.min, most + 1)
    return tuple(size for size in sizes if train.global_batch % (size * micro) == 0)
