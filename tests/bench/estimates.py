"""Memory estimates hold: what a plan predicts of each rank, against what the rank holds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed

from cluster.memory import logits_gradient
from cluster.plan import allowed_stages, memory_plan
from cluster.spec import Spec, parse_model
from cluster.storage import open_storage
from jobs.domains import open_domain
from jobs.engine import Engine, layout
from jobs.feed import Feed
from jobs.prepared import PreparedData
from jobs.sizes import sizes_of
from tests.activations import kept_bytes
from tests.bench.result import Result, Say
from tests.memory_census import Peaks, take_census
from tests.process_group import run_group
from tests.trainings import MODEL, prepare_data, write_spec

CLAIM = "memory estimates hold"
HOW = (
    "bytes per rank that `slipway plan` predicts against what the worst rank holds, fp32 on CPUs, "
    "at every ZeRO stage and 1, 2 and 4 workers: parameters and gradients at their peak with "
    "DeepSpeed's buffers, optimizer, and activations as autograd keeps them (but not the "
    "gradient of the logits, which the plan adds and autograd does not keep)"
)
TOLERANCE = 0.1
MICRO = 4
TEXTS = {"source": "builtin:docstrings", "tokenizer": {"type": "bpe", "size": 4096}}
NETWORKS: dict[str, dict[str, Any]] = {
    "gpt": {
        "domain": "text",
        "task": "generation",
        "data": {"source": "builtin:python-docs", "tokenizer": {"type": "bpe", "size": 4096}},
        "network": {"type": "gpt", "layers": 4, "heads": 4, "width": 256, "context": 128},
    },
    "bert": {
        "domain": "text",
        "task": "classification",
        "data": TEXTS,
        "network": {"type": "bert", "layers": 4, "heads": 4, "width": 256, "context": 24},
    },
    "resnet": {
        "domain": "vision",
        "task": "classification",
        "data": "builtin:digits",
        "network": {"type": "resnet", "width": 64, "size": 8},
    },
    "tacotron2": {
        "domain": "speech",
        "task": "synthesis",
        "data": "builtin:spoken",
        "network": {"type": "tacotron2", "width": 192, "decoder": 384},
    },
    "sasrec": {
        "domain": "recommendation",
        "task": "next-item",
        "data": "builtin:imports",
        "network": {"type": "sasrec", "layers": 4, "heads": 4, "width": 256, "context": 8},
    },
}


def measure(
    folder: Path, say: Say, sample: str = "gpt", groups: tuple[int, ...] = (1, 2, 4)
) -> Result:
    """Measure every stage in one process group a number of workers."""
    spec = spec_of(folder, sample)
    data = prepare_data(spec)
    table = []
    for workers in groups:
        ranks = run_group(measure_stages, workers, spec, data)
        for stage in allowed_stages(spec.model(MODEL)):
            row = judge(spec, data, [rank[stage] for rank in ranks], stage, workers)
            say(
                f"{workers} workers, stage {stage}: {row['found'] / 1e6:.1f} MB, predicted "
                f"{row['expected'] / 1e6:.1f} ({row['off']:+.1%})"
            )
            table.append(row)
    worst = max(table, key=lambda row: abs(row["off"]))
    return Result(
        f"at most {abs(worst['off']):.1%} off, at stage {worst['stage']} on {worst['workers']} "
        f"workers ({len(table)} cases, {table[0]['parameters']:,} parameters)",
        f"within {TOLERANCE:.0%}",
        abs(worst["off"]) <= TOLERANCE,
        {"table": table},
    )


def spec_of(folder: Path, sample: str) -> Spec:
    """A small model whose every worker computes one micro-batch a step."""
    train = {"steps": 4, "global_batch": 4 * MICRO, "micro_batch": MICRO, "workers": 1}
    spec = write_spec(folder, train)
    model = parse_model(NETWORKS[sample] | {"train": train})
    return spec.model_copy(update={"models": {MODEL: model}})


def measure_stages(spec: Spec, data: str) -> dict[int, dict[str, int]]:
    """Measure this worker at every stage; collective."""
    return {stage: _measure(spec, data, stage) for stage in allowed_stages(spec.model(MODEL))}


def _measure(spec: Spec, data: str, stage: int) -> dict[str, int]:
    train = spec.model(MODEL).train
    world_size, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    prepared = PreparedData(open_storage(spec.cluster.storage, spec.name), data)
    domain = open_domain(spec.model(MODEL), prepared.processor())
    # One micro-batch a step: with accumulation stage 2 holds its shard of gradients twice.
    batch = layout(train.model_copy(update={"global_batch": MICRO * world_size}), world_size)
    engine = Engine(domain, train, stage, "fp32", batch)
    rows = prepared.rows("train")
    assert rows is not None
    kept = 0
    with Feed(rows, domain, batch, rank, 0, 0) as feed:
        _step(engine, feed)  # the optimizer makes its states in the first step
        peaks = Peaks(engine)
        _look_at_buckets(engine.engine.optimizer, peaks)
        for micro in feed.next(engine.device):
            losses: list[Any] = []
            run = partial(_forward, engine, micro, losses)
            kept = max(kept, kept_bytes(engine.engine.module, run))
            engine.backward(losses[0])
            peaks.look()
            engine.step()
    held = take_census(engine)
    peaks.look()
    measured = peaks.num_bytes | {"optimizer": held.num_bytes["optimizer"], "activations": kept}
    engine.close()
    return measured | {"psi": engine.num_parameters}


def _look_at_buckets(optimizer: Any, peaks: Peaks) -> None:
    """Look when a bucket has been emptied: for a moment it and what came of it are both held."""
    emptied = getattr(optimizer, "reduce_ipg_grads", None)
    if emptied is None:  # stages 0 and 3
        return

    def empty(*arguments: Any, **named: Any) -> None:
        emptied(*arguments, **named)
        peaks.look()

    optimizer.reduce_ipg_grads = empty


def _forward(engine: Engine, batch: dict[str, Any], losses: list[Any]) -> None:
    losses.append(engine.forward(batch, 1, 0))


def _step(engine: Engine, feed: Feed) -> None:
    for number, batch in enumerate(feed.next(engine.device)):
        engine.backward(engine.forward(batch, 0, number))
        engine.step()


def judge(
    spec: Spec, data: str, ranks: list[dict[str, int]], stage: int, workers: int
) -> dict[str, Any]:
    """Hold the worst rank against the plan."""
    storage = open_storage(spec.cluster.storage, spec.name)
    model = spec.model(MODEL)
    train = model.train.model_copy(update={"global_batch": MICRO * workers})
    spec = spec.model_copy(update={"models": {MODEL: model.model_copy(update={"train": train})}})
    plan = memory_plan(spec, MODEL, workers, sizes_of(model, storage, data))
    assert plan is not None
    expected = plan.estimates[stage]
    kinds = ("parameters", "gradients", "optimizer", "activations")
    worst = max(ranks, key=lambda rank: sum(rank[kind] for kind in kinds))
    found = sum(worst[kind] for kind in kinds)
    total = expected.total - logits_gradient(plan.shape)
    return {
        "workers": workers,
        "stage": stage,
        "parameters": worst["psi"],
        "found": found,
        "expected": total,
        "off": total / found - 1,
        "kinds": {kind: [worst[kind], getattr(expected, kind)] for kind in kinds},
        "buffers": expected.buffers,
    }
