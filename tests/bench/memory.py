"""ZeRO partitions: bytes per worker of parameters, gradients and optimizer at each stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn

from cluster.memory import model_states
from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.domains import open_domain
from jobs.engine import Engine, engine_config, layout
from jobs.feed import Feed
from jobs.prepared import PreparedData
from tests.bench.result import Result, Say
from tests.memory_census import KINDS, Peaks, take_census
from tests.process_group import run_group
from tests.trainings import MODEL, STAGES, prepare_data, write_spec

CLAIM = "ZeRO partitions"
HOW = (
    "bytes per rank, bf16, against 2Ψ + 2Ψ + 12Ψ/N and its stages (table below): distinct storages "
    "reachable from parameters, gradients (at their peak) and optimizer"
)
TOLERANCE = 0.01
BUCKET = 2_000_000
Measured = dict[str, Any]


def measure(
    folder: Path,
    say: Say,
    groups: tuple[int, ...] = (1, 2, 4),
    width: int = 512,
    layers: int = 4,
    precision: str = "bf16",
) -> Result:
    """Measure every stage in one process group a number of workers; all ranks must keep to it."""
    train = {"steps": 4, "global_batch": 4, "micro_batch": 1, "workers": 1, "precision": precision}
    network = {"width": width, "layers": layers, "heads": 8}
    spec = write_spec(folder, train, network)
    data = prepare_data(spec)
    table = []
    for workers in groups:
        ranks = run_group(measure_stages, workers, spec, data, precision)
        for stage in STAGES:
            row = judge([rank[stage] for rank in ranks], stage, workers, precision)
            say(f"{workers} workers, stage {stage}: " + ", ".join(shown(row, k) for k in KINDS))
            table.append(row)
    worst = max(max(row["off"]["parameters"], row["off"]["optimizer"]) for row in table)
    over = max(row["over_layers"] for row in table)
    parameters = table[0]["psi"]
    return Result(
        f"parameters and optimizer {worst:.2%} off, gradients {over:.2f} layers over, at "
        f"Ψ = {parameters:,}",
        "1 %; one largest layer",
        all(row["holds"] for row in table) and (parameters >= 10_000_000 or width < 512),
        {"table": table, "precision": precision, "bucket_elements": BUCKET},
    )


def measure_stages(spec: Spec, data: str, precision: str) -> dict[int, Measured]:
    """Measure this worker at every stage; collective."""
    return {stage: _measure(spec, data, stage, precision) for stage in STAGES}


def _measure(spec: Spec, data: str, stage: int, precision: str) -> Measured:
    train = spec.model(MODEL).train
    world_size, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    prepared = PreparedData(open_storage(spec.cluster.storage, spec.name), data)
    domain = open_domain(spec.model(MODEL), prepared.processor())
    # One micro-batch a step: with accumulation stage 2 holds its shard of gradients twice.
    batch = layout(train.model_copy(update={"global_batch": world_size}), world_size)
    config = engine_config(train, stage, precision, batch)
    config["zero_optimization"] |= {"reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET}
    if stage == 3:
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    engine = Engine(domain, train, stage, precision, batch, config)
    rows = prepared.rows("train")
    assert rows is not None
    with Feed(rows, domain, batch, rank, 0, 0) as feed:
        _step(engine, feed, 0)  # the optimizer makes its states in the first step
        peaks = Peaks(engine)
        _step(engine, feed, 1)
    held = take_census(engine)
    peaks.look()
    measured = {
        "psi": engine.num_parameters,
        "layer": largest_layer(engine.engine.module),
        "bytes": held.num_bytes | {"gradients": peaks.num_bytes["gradients"]},
        "peak_parameters": peaks.num_bytes["parameters"],
        "largest": list(held.storages[:12]),
    }
    engine.close()
    return measured


def _step(engine: Engine, feed: Feed, step: int) -> None:
    for number, batch in enumerate(feed.next(engine.device)):
        engine.backward(engine.forward(batch, step, number))
        engine.step()


def largest_layer(module: nn.Module) -> int:
    """Parameters of the largest child that a list of layers holds, or of the largest embedding."""
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    layers = [layer for each in lists for layer in each]
    layers += [child for child in module.modules() if isinstance(child, nn.Embedding)]
    return max(
        sum(getattr(p, "ds_numel", p.numel()) for p in layer.parameters()) for layer in layers
    )


def judge(ranks: list[Measured], stage: int, workers: int, precision: str) -> dict[str, Any]:
    """Hold the worst rank against the formula; bytes per parameter are what people compare."""
    psi, width = ranks[0]["psi"], 4 if precision == "fp32" else 2
    expected = dict(zip(KINDS, model_states(psi, stage, workers, precision), strict=True))
    found = {kind: max(rank["bytes"][kind] for rank in ranks) for kind in KINDS}
    off = {kind: abs(found[kind] / expected[kind] - 1) for kind in KINDS}
    over = (found["gradients"] - expected["gradients"]) / (ranks[0]["layer"] * width)
    exact = max(off["parameters"], off["optimizer"]) <= TOLERANCE
    return {
        "workers": workers,
        "stage": stage,
        "psi": psi,
        "expected": expected,
        "found": found,
        "off": off,
        "over_layers": over,
        "peak_parameters": max(rank["peak_parameters"] for rank in ranks),
        "largest": ranks[0]["largest"],
        "holds": exact and over <= 1,
    }


def shown(row: dict[str, Any], kind: str) -> str:
    """Say what was found and expected, in bytes per parameter."""
    psi = row["psi"]
    return f"{kind} {row['found'][kind] / psi:.3f} (of {row['expected'][kind] / psi:.3f})"
