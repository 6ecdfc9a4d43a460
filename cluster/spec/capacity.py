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


def worker_slots(cluster: ClusterSpec, train: TrainSpec) -> int | None:
    """The most workers that the cluster can ever hold; None where the file does not say."""
    pools = usable_pools(cluster, train)
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


def worker_sizes(train: TrainSpec) -> tuple[int, ...]:
    """The numbers of workers allowed by ``workers`` that share ``global_batch`` evenly."""
    micro = 1 if train.micro_batch == "auto" else train.micro_batch
    most = min(train.workers.max, train.global_batch)
    sizes = range(train.workers.min, most + 1)
    return tuple(size for size in sizes if train.global_batch % (size * micro) == 0)
