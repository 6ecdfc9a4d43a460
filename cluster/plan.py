"""What a spec will do, before anything starts: pure arithmetic over the spec, free of torch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.devices import Device, device_named
from cluster.memory import USABLE_SHARE, Counted, Estimate, Shape, choose_stage, estimate
from cluster.shapes import network_shape
from cluster.spec import ModelSpec, Pool, Spec, resolve_precision, usable_pools
from cluster.spec.capacity import sharing


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes per device at each stage, the stage that is taken, and what a device has."""

    estimates: dict[int, Estimate]
    stage: int
    why: str
    device_bytes: float
    workers: int
    precision: str
    shape: Shape | Counted

    @property
    def parameters(self) -> int:
        """Parameters of the network."""
        return self.shape.parameters


def pool_of(spec: Spec, model: ModelSpec) -> Pool | None:
    """The pool a model trains on: of those that it fills, the first."""
    return next(iter(_pools_of(spec, model)), None)


def filled(spec: Spec, model: ModelSpec, workers: int) -> list[tuple[Pool, int]]:
    """The pools that so many workers fill, in the file's order, each with the nodes of it."""
    left, found = workers, []
    for pool in _pools_of(spec, model):
        held = workers_per_node(pool, model)
        nodes = min(pool.nodes.max, math.ceil(left / held))
        if nodes > 0:
            found.append((pool, nodes))
            left -= nodes * held
    return found


def num_nodes(spec: Spec, model: ModelSpec, workers: int) -> int:
    """Nodes that so many workers stand on; without a pool, this machine or the head."""
    return sum(nodes for _, nodes in filled(spec, model, workers)) or 1


def workers_per_node(pool: Pool, model: ModelSpec) -> int:
    """Workers that one node of a pool holds; of alternative accelerators, the first."""
    if pool.accelerators:
        return pool.accelerators[0].count * sharing(model.train)
    return max(1, int((pool.cpus or 1) / _cpus_of(model)))


def _pools_of(spec: Spec, model: ModelSpec) -> list[Pool]:
    """The pools that a model may use: those with accelerators, else whose nodes hold a worker."""
    pools = usable_pools(spec.cluster, model.train)
    accelerated = [pool for pool in pools if pool.accelerators]
    holding = [pool for pool in pools if not pool.cpus or pool.cpus >= _cpus_of(model)]
    return accelerated or holding or list(pools[:1])


def _cpus_of(model: ModelSpec) -> float:
    """CPUs of a worker; one at least where the file leaves it open."""
    each = model.train.cpus_per_worker
    return 1.0 if each == "auto" else float(each)


def device_of(pool: Pool | None) -> Device | None:
    """What is known of a pool's accelerators: of alternatives, the first."""
    return device_named(pool.accelerators[0].name) if pool and pool.accelerators else None


def resolved_stage(
    spec: Spec, name: str, workers: int | None = None, sizes: Mapping[str, int] | None = None
) -> int:
    """``train.zero.stage``, where ``auto`` is the lowest stage that fits the device."""
    stage = spec.model(name).train.zero.stage
    if stage != "auto":
        return int(stage)
    memory = memory_plan(spec, name, workers, sizes)
    return memory.stage if memory else min(allowed_stages(spec.model(name)))


def allowed_stages(model: ModelSpec) -> tuple[int, ...]:
    """The stages that network and offload can run at: offload wants shards, NVMe stage 3."""
    least = {"none": 0, "cpu": 1, "nvme": 3}[model.train.zero.offload]
    return tuple(stage for stage in model.network.zero_stages if stage >= least)


def memory_plan(
    spec: Spec, name: str, workers: int | None = None, sizes: Mapping[str, int] | None = None
) -> MemoryPlan | None:
    """Memory of a model's training; None for a network whose size nothing tells yet.

    `sizes` is what storage has counted of it: see `cluster.shapes`.
    """
    model = spec.model(name)
    train = model.train
    workers = workers or train.workers.max
    shape = network_shape(model, workers, sizes)
    if shape is None:
        return None
    precision = resolve_precision(spec.cluster, train)
    pool = pool_of(spec, model)
    overlaps = bool(pool and pool.accelerators)
    estimates = {
        stage: estimate(
            shape,
            stage,
            workers,
            precision,
            train.zero.offload,
            train.activation_checkpointing,
            overlaps,
        )
        for stage in allowed_stages(model)
    }
    available = device_bytes(pool, model, workers) * (train.accelerator_share if overlaps else 1.0)
    stage = train.zero.stage
    taken = choose_stage(estimates, available, workers) if stage == "auto" else int(stage)
    why = _reason(estimates, taken, available, workers) if stage == "auto" else "the YAML says so"
    return MemoryPlan(estimates, taken, why, available, workers, precision, shape)


def device_bytes(pool: Pool | None, model: ModelSpec, workers: int) -> float:
    """Memory that one worker may use: its accelerator's, or its share of the node's."""
    if pool is not None and pool.accelerators:
        sizes = [device_named(a.name) for a in pool.accelerators]
        known = [device.memory_bytes for device in sizes if device is not None]
        return float(min(known)) if known else float("inf")
    if pool is not None and pool.memory:
        held = math.ceil(workers / pool.nodes.max)
        if model.train.cpus_per_worker != "auto":  # else each may have a node of its own
            held = max(held, min(workers, workers_per_node(pool, model)))
        return pool.memory / held
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / workers


def shown_bytes(size: float) -> str:
    """A size as people read it."""
    return f"{size / 2**20:,.0f} MiB" if size < 2**34 else f"{size / 2**30:,.1f} GiB"


def _reason(estimates: dict[int, Estimate], taken: int, available: float, workers: int) -> str:
    """Why `choose_stage` took it, in one sentence."""
    usable = available * USABLE_SHARE
    has = f"of {shown_bytes(usable)} that a worker may use" if math.isfinite(usable) else "of any"
    needs = shown_bytes(estimates[taken].total)
    if estimates[taken].total > usable:
        return f"none fits: it takes the least, {needs} {has}"
    if workers == 1:
        return f"with one worker there is nothing to divide; {needs} {has}"
    lower = [stage for stage in estimates if stage < taken]
    if not lower:
        return f"the lowest that there is fits, {needs} {has}; higher ones cost communication"
    less = shown_bytes(estimates[max(lower)].total)
    return f"the lowest that fits, {needs} {has}; stage {max(lower)} takes {less}"
