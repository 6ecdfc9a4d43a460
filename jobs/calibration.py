"""How fast a model trains: as an earlier run of it was measured, else from its operations.

A run's attempts say on which device and with how many workers they trained (`marks`); what is
planned is scaled from there. Without such a run, the operations of a step are held against the
peak of the devices: of accelerators by their makers, of this machine's CPUs by a short measurement.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from statistics import median
from typing import Any

from cluster.devices import device_named
from cluster.memory import Counted, Shape
from cluster.parts import read_joined
from cluster.plan import MemoryPlan, device_of, num_nodes, pool_of
from cluster.spec import ModelSpec, Spec, resolve_precision
from cluster.speed import CPU_UTILISATION, UTILISATION, Speed, computed
from cluster.storage import Storage
from jobs.progress import parse_lines
from jobs.runs import Attempt, Run, stage_digest

CPU = "cpu"
WARM_UP, ENOUGH = 3, 5
"""Steps that are left out at the start of an attempt, and that must follow."""
CORE_FLOPS = 30e9
"""Assumed of a core of another machine, in fp32: what a matrix product reaches on one of 2.5 GHz
with AVX2."""
PROBE_SIDE, PROBE_S = 512, 0.15


def marks(spec: Spec, model: ModelSpec, device: str) -> dict[str, Any]:
    """What an attempt writes down, so that a plan can tell whether its speed is that of a model."""
    precision = resolve_precision(spec.cluster, model.train)
    return {
        "device": device,
        "global_batch": model.train.global_batch,
        "speed_key": _key(model, precision),
    }


def speed_of(spec: Spec, name: str, storage: Storage, memory: MemoryPlan | None) -> Speed | None:
    """Seconds of a step; None where nothing tells."""
    model = spec.model(name)
    workers = memory.workers if memory else model.train.workers.max
    found = _recorded(spec, model, name, storage, workers)
    if found is not None:
        return found
    return None if memory is None else _from_flops(spec, model, memory)


def _recorded(
    spec: Spec, model: ModelSpec, name: str, storage: Storage, workers: int
) -> Speed | None:
    """From the newest attempt of a run that trained the same on a device of this kind."""
    pool = pool_of(spec, model)
    key = _key(model, resolve_precision(spec.cluster, model.train))
    known = [n for n in storage.folders("runs") if n.startswith(f"{name}-train-")]
    runs = [
        run for run in (Run(storage, n) for n in known) if storage.exists(f"{run.path}/run.json")
    ]
    runs.sort(key=lambda run: float(run.info()["created"]), reverse=True)
    for run in runs:
        for attempt in reversed(run.attempts()):
            info = attempt.info
            if info.get("speed_key") != key or not _is_alike(str(info.get("device")), pool):
                continue
            seconds = _seconds(storage, attempt)
            if seconds is None:
                continue
            before = int(info["workers"])
            share = model.train.global_batch / int(info["global_batch"])
            if pool is not None and pool.accelerators:
                share *= before / workers
            else:  # workers of one node share its CPUs
                share *= num_nodes(spec, model, before) / num_nodes(spec, model, workers)
            scaled = "" if share == 1 else f", scaled from {before} workers"
            return Speed(seconds * share, f"measured in {run.id}{scaled}", True)
    return None


def _is_alike(device: str, pool: Any) -> bool:
    planned = device_of(pool)
    if planned is None:
        return device == CPU and not (pool and pool.accelerators)
    return device_named(device) == planned


def _seconds(storage: Storage, attempt: Attempt) -> float | None:
    """Of a step, with the validations and checkpoints between as they were."""
    text = read_joined(storage, f"{attempt.path}/metrics.jsonl")
    lines = [line for line in parse_lines(text) if "step_s" in line][WARM_UP:]
    if len(lines) < ENOUGH:
        return None
    first, last = lines[0], lines[-1]
    steps = int(last["step"]) - int(first["step"])
    if steps <= 0:
        return None
    wall = (float(last["time"]) - float(first["time"])) / steps
    return max(wall, median(float(line["step_s"]) for line in lines))


def _from_flops(spec: Spec, model: ModelSpec, memory: MemoryPlan) -> Speed | None:
    if not memory.shape.flops:
        return None
    pool = pool_of(spec, model)
    device = device_of(pool)
    if device is not None:
        step_s = _computed(memory.shape, model, memory, device.flops)
        return Speed(step_s, f"from FLOPs at {UTILISATION:.0%} of the peak, not measured", False)
    if pool is not None and pool.accelerators:
        return None  # of a kind that the table of devices does not have
    nodes = num_nodes(spec, model, memory.workers)
    if spec.cluster.provider.type == "local":
        peak, said = nodes * cpu_peak(), "this machine's, measured"
    else:
        peak, said = nodes * (pool.cpus if pool and pool.cpus else 1) * CORE_FLOPS, "assumed"
    # what counts is the sum: workers of one node share its CPUs
    flops = memory.shape.flops * model.train.global_batch
    step_s = flops / (peak * CPU_UTILISATION)
    how = f"from FLOPs at {CPU_UTILISATION:.0%} of {peak / 1e9:,.0f} GFLOP/s ({said}), rough"
    return Speed(step_s, how, False)


def _computed(shape: Shape | Counted, model: ModelSpec, memory: MemoryPlan, peak: float) -> float:
    train = model.train
    return computed(
        shape, train.global_batch, memory.workers, peak, memory.precision,
        train.activation_checkpointing,
    )  # fmt: skip


@cache
def cpu_peak() -> float:
    """What a product of matrices in fp32 reaches on this machine, in operations a second."""
    import numpy as np

    left = np.ones((PROBE_SIDE, PROBE_SIDE), np.float32)
    right = left.copy()
    left @ right  # threads start
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < PROBE_S:
        left @ right
        count += 1
    return count * 2.0 * PROBE_SIDE**3 / (time.perf_counter() - began)


def _key(model: ModelSpec, precision: str) -> str:
    """Digest of what decides how long a record takes."""
    parts: Mapping[str, Any] = {
        "task": f"{model.domain} {model.task}",
        "network": model.network.model_dump(mode="json"),
        "tokenizer": model.data.tokenizer.model_dump(mode="json"),
        "precision": precision,
        "recomputes": model.train.activation_checkpointing,
        "compile": model.train.compile,
        "offload": model.train.zero.offload,
    }
    return stage_digest(parts)[:16]
