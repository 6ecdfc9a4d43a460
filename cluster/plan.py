"""What a spec will do, before anything starts: pure arithmetic over the spec, free of torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.catalogues import is_recommender, recommender_shape
from cluster.convolutions import picture_parameters, picture_values
from cluster.devices import device_named
from cluster.memory import Estimate, PictureShape, Shape, choose_stage, estimate
from cluster.parameters import count_parameters, logits_per_token
from cluster.spec import ModelSpec, Pool, Spec, resolve_precision, usable_pools
from cluster.spec.networks import CNN, ResNet


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes per device at each stage, the stage that is taken, and what a device has."""

    estimates: dict[int, Estimate]
    stage: int
    device_bytes: float
    workers: int
    precision: str
    parameters: int


def pool_of(spec: Spec, model: ModelSpec) -> Pool | None:
    """The pool a model trains on: of those it may use, the first with accelerators."""
    pools = usable_pools(spec.cluster, model.train)
    return next((p for p in pools if p.accelerators), pools[0] if pools else None)


def resolved_stage(spec: Spec, name: str) -> int:
    """``train.zero.stage``, where ``auto`` is the lowest stage that fits the device."""
    stage = spec.model(name).train.zero.stage
    if stage != "auto":
        return int(stage)
    memory = memory_plan(spec, name)
    return memory.stage if memory else min(allowed_stages(spec.model(name)))


def allowed_stages(model: ModelSpec) -> tuple[int, ...]:
    """The stages that network and offload can run at: offload wants shards, NVMe stage 3."""
    least = {"none": 0, "cpu": 1, "nvme": 3}[model.train.zero.offload]
    return tuple(stage for stage in model.network.zero_stages if stage >= least)


def memory_plan(
    spec: Spec, name: str, workers: int | None = None, sizes: Mapping[str, int] | None = None
) -> MemoryPlan | None:
    """Memory of a model's training; None for a network whose size the spec does not tell.

    A recommender's size is told by its prepared data: `sizes`, see `cluster.catalogues`.
    """
    model = spec.model(name)
    train = model.train
    workers = workers or train.workers.max
    shape = network_shape(model, workers, sizes)
    if shape is None:
        return None
    precision = resolve_precision(spec.cluster, train)
    estimates = {
        stage: estimate(
            shape, stage, workers, precision, train.zero.offload, train.activation_checkpointing
        )
        for stage in allowed_stages(model)
    }
    available = device_bytes(pool_of(spec, model), workers)
    stage = train.zero.stage
    taken = choose_stage(estimates, available, workers) if stage == "auto" else int(stage)
    return MemoryPlan(estimates, taken, available, workers, precision, shape.parameters)


def network_shape(
    model: ModelSpec, workers: int, sizes: Mapping[str, int] | None = None
) -> Shape | PictureShape | None:
    """What memory depends on, from the spec alone, or from it and what preparing has counted."""
    network: Any = model.network
    share = max(1, model.train.global_batch // workers)
    micro = min(share, 32) if model.train.micro_batch == "auto" else int(model.train.micro_batch)
    if isinstance(network, ResNet | CNN):
        return PictureShape(picture_parameters(network), micro * picture_values(network))
    if is_recommender(model):
        return recommender_shape(model, sizes, micro) if sizes else None
    vocabulary = model.data.tokenizer.size if model.data.tokenizer.type != "character" else 256
    parameters = count_parameters(model, vocabulary)
    if parameters is None:
        return None
    return Shape(
        parameters=parameters,
        layers=network.layers,
        width=network.width,
        heads=getattr(network, "heads", 1),
        context=network.context,
        logits=logits_per_token(model, vocabulary),
        tokens=micro * network.context,
    )


def device_bytes(pool: Pool | None, workers: int) -> float:
    """Memory that one worker may use: its accelerator's, or its share of the node's."""
    if pool is not None and pool.accelerators:
        sizes = [device_named(a.name) for a in pool.accelerators]
        known = [device.memory_bytes for device in sizes if device is not None]
        return float(min(known)) if known else float("inf")
    if pool is not None and pool.memory:
        return pool.memory * pool.nodes.max / workers
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / workers
