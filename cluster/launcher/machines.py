"""From the pools of the spec to types of nodes: which machine, how many, on which terms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.machines import Machine, kinds, machine_of, machine_with
from cluster.spec.grammar import Accelerator

if TYPE_CHECKING:
    from cluster.spec import Pool, Spec

GIB = 2**30
HEAD = "head"


@dataclass(frozen=True)
class NodeType:
    """Machines of one type. ``resources`` are Ray's; empty where Ray finds them out itself."""

    name: str
    machine: str
    resources: dict[str, int]
    least: int = 0
    most: int = 0
    spot: bool = False
    priority: int = 0
    pool: str | None = None
    accelerator: Accelerator | None = None


def head_type(spec: Spec) -> NodeType:
    """The head: as large as it says, and empty of work where there are pools to work in."""
    wanted = spec.cluster.head
    cpus = wanted.cpus or 2
    machine = machine_of(spec.cluster.provider.type, cpus, wanted.memory or 8 * GIB)
    return NodeType(HEAD, machine.name, {"CPU": 0 if spec.cluster.pools else cpus})


def worker_types(spec: Spec) -> list[NodeType]:
    """One for every pool, or one for each of its alternatives: Ray takes the highest priority
    first, and the next where that cannot be had."""
    return [each for pool in spec.cluster.pools for each in _of_pool(spec, pool)]


def type_names(pool: Pool) -> list[str]:
    """The names of a pool's types, in the order of its alternatives."""
    if pool.instance or len(pool.accelerators) < 2:
        return [pool.name]
    return [
        re.sub(r"[^a-z0-9]+", "-", f"{pool.name}-{accelerator}".lower())
        for accelerator in pool.accelerators
    ]


def _of_pool(spec: Spec, pool: Pool) -> list[NodeType]:
    cloud = spec.cluster.provider.type
    if pool.instance or not pool.accelerators:
        return [_named(cloud, pool)]
    types, names = [], type_names(pool)
    for at, accelerator in enumerate(pool.accelerators):
        machine = machine_with(cloud, accelerator)
        types.append(
            NodeType(
                name=names[at],
                machine=machine.name,
                resources=_resources(machine, pool),
                least=0 if at else pool.nodes.min,
                most=pool.nodes.max,
                spot=pool.spot,
                priority=len(names) - at if len(names) > 1 else 0,
                pool=pool.name,
                accelerator=accelerator,
            )
        )
    return types


def _named(cloud: str, pool: Pool) -> NodeType:
    """A pool whose machine is named, or is chosen by CPUs and memory."""
    accelerator = pool.accelerators[0] if pool.accelerators else None
    if pool.instance:
        name = pool.instance
        resources = {"CPU": pool.cpus} if pool.cpus else {}
        if accelerator:
            resources["GPU"] = accelerator.count
    else:
        machine = machine_of(cloud, pool.cpus or 1, pool.memory or 0)
        name, resources = machine.name, _resources(machine, pool)
    return NodeType(
        name=pool.name,
        machine=name,
        resources=resources,
        least=pool.nodes.min,
        most=pool.nodes.max,
        spot=pool.spot,
        pool=pool.name,
        accelerator=accelerator,
    )


def _resources(machine: Machine, pool: Pool) -> dict[str, int]:
    found = {"CPU": pool.cpus or machine.cpus}
    if machine.accelerators:
        found["GPU"] = machine.accelerators
    return found


def attached(node: NodeType) -> str | None:
    """GCP's name of an accelerator that is attached to the machine, and no part of its type."""
    kind = kinds().get(node.accelerator.name) if node.accelerator else None
    return kind.attached if kind else None
