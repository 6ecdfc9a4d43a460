"""From the pools of the spec to groups of like pods."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.machines import GIB, NVIDIA, kinds, pod_size
from cluster.spec.grammar import Accelerator

if TYPE_CHECKING:
    from cluster.spec import Pool, Spec

HEAD_CPUS = 2
HEAD_MEMORY = 8 * GIB
MEMORY_PER_CPU = 4 * GIB


@dataclass(frozen=True)
class Group:
    """Pods of one size. ``memory_bytes`` is what each may use, its shared memory included."""

    name: str
    pool: str
    cpus: int
    memory_bytes: int
    least: int = 1
    most: int = 1
    accelerators: tuple[Accelerator, ...] = ()
    """Alternatives of one count, the preferred first."""
    spot: bool = False
    instance: str | None = None
    priority: int = 0
    """Ray's autoscaler takes the group with the highest that satisfies a demand."""

    @property
    def num_accelerators(self) -> int:
        """Devices of each pod."""
        return self.accelerators[0].count if self.accelerators else 0

    @property
    def resource(self) -> str:
        """Kubernetes' name of the devices."""
        kind = kinds().get(self.accelerators[0].name) if self.accelerators else None
        return kind.resource if kind else NVIDIA


def groups(spec: Spec) -> list[Group]:
    """The worker groups of all pools, in the order of the file."""
    return [group for pool in spec.cluster.pools for group in pool_groups(pool)]


def pool_groups(pool: Pool) -> list[Group]:
    """One group; of alternatives that differ in number or maker one each, the first preferred.

    Alternatives alike in both are one group whose pods may run on either: the scheduler, and not
    Ray, then sees which can be had.
    """
    if not pool.accelerators:
        return [_group(pool, pool.name, (), 0, first=True)]
    alike: dict[tuple[str, int], list[Accelerator]] = {}
    for each in pool.accelerators:
        kind = kinds().get(each.name)
        alike.setdefault((kind.resource if kind else NVIDIA, each.count), []).append(each)
    if len(alike) == 1:
        return [_group(pool, pool.name, pool.accelerators, 0, first=True)]
    return [
        _group(pool, _name(pool, same[0]), tuple(same), len(alike) - at, first=at == 0)
        for at, same in enumerate(alike.values())
    ]


def _group(
    pool: Pool, name: str, accelerators: tuple[Accelerator, ...], priority: int, first: bool
) -> Group:
    sizes = [pod_size(each) for each in accelerators if each.name in kinds()]
    cpus = pool.cpus or min((size[0] for size in sizes), default=_cpus(accelerators))
    memory = pool.memory or min((size[1] for size in sizes), default=cpus * MEMORY_PER_CPU)
    return Group(
        name=name,
        pool=pool.name,
        cpus=cpus,
        memory_bytes=memory,
        least=pool.nodes.min if first else 0,
        most=pool.nodes.max,
        accelerators=accelerators,
        spot=pool.spot,
        instance=pool.instance,
        priority=priority,
    )


def _cpus(accelerators: tuple[Accelerator, ...]) -> int:
    """CPUs of a pod whose pool does not say: a machine named by ``instance:``."""
    return 8 * accelerators[0].count if accelerators else 4


def _name(pool: Pool, accelerator: Accelerator) -> str:
    text = f"{pool.name}-{accelerator.name}-{accelerator.count}".lower()
    return re.sub(r"[^a-z0-9]+", "-", text)
