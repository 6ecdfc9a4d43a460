"""Early stopping pays: steps that ASHA needs for what random search finds with all of them.

A trial that ASHA continues is bit for bit the one that trains through (the rows "resume"), so each
point is trained once, to its end and with its score at every rung; both are then played over it.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from cluster.machine import free_ports
from cluster.spec import ModelSpec, Spec, load, with_values
from cluster.spec.tune import TuneSpec
from cluster.storage import open_storage
from jobs.loop import Worker
from jobs.prepare import prepare
from jobs.prepared import PreparedData
from jobs.runs import Run, joined_metrics
from jobs.task import Task
from tests.bench.result import Result, Say
from tests.trainings import shared_folder
from tune.history import History
from tune.rungs import START, Ladder, Leg, next_leg
from tune.search import suggest
from tune.table import best_score

CLAIM = "early stopping pays"
HOW = (
    "the same random points, each trained once to its end with its score at 1/9, 1/3 and the "
    "whole; ASHA and random search played over them: ASHA's steps as a share of random search's, "
    "and the best metric of each (tests/bench/sweeps.yaml: accuracy on AG News, hr@10 on "
    "MovieLens); one worker with one thread each, two cases at a time"
)
LIMIT, WITHIN = 0.40, 0.005
SPECS = Path(__file__).with_name("sweeps.yaml")
MODELS = ("ag-news", "movies")


def measure(folder: Path, say: Say) -> Result:
    """Both data sets; TRIALS (32) and SEEDS (3) may be fewer."""
    trials, seeds = int(os.environ.get("TRIALS", "32")), int(os.environ.get("SEEDS", "3"))
    models = os.environ.get("MODELS", ",".join(MODELS)).split(",")
    cases = [(name, seed) for seed in range(seeds) for name in models]
    found = dict(zip(cases, side_by_side(folder, cases, trials, say), strict=True))
    told = "; ".join(
        f"{name}, seed {seed}: {each['share']:.0%} of the steps for {each['asha']:.4f} against "
        f"{each['best']:.4f}"
        for (name, seed), each in found.items()
    )
    return Result(
        f"{told} ({trials} trials, at most {max(e['slowest_s'] for e in found.values()):.0f} s "
        "of processor each)",
        f"below {LIMIT:.0%} each, within half a point",
        all(e["share"] < LIMIT and e["best"] - e["asha"] <= WITHIN for e in found.values()),
        {"found": {f"{name}, seed {seed}": each for (name, seed), each in found.items()}},
    )


def side_by_side(
    folder: Path, cases: Sequence[tuple[str, int]], trials: int, say: Say
) -> list[dict[str, Any]]:
    """``share`` of each case, two at a time, each in a process and a store of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        under_way = [
            pool.submit(alone, folder / f"{name}-{seed}", name, seed, trials)
            for name, seed in cases
        ]
        for (name, seed), each in zip(cases, under_way, strict=True):
            done = each.result()
            say(
                f"{name}, seed {seed}: {done['share']:.0%} of the steps, {done['asha']:.4f} "
                f"against {done['best']:.4f}; a trial took at most {done['slowest_s']:.0f} s"
            )
        return [each.result() for each in under_way]


def alone(folder: Path, name: str, seed: int, trials: int) -> dict[str, Any]:
    """``share`` of one case, in this process."""
    torch.set_num_threads(1)
    spec = load(SPECS, overrides=(f"cluster.storage={folder}/store",), root=_root())
    folder.mkdir(parents=True)
    with single_process(folder):
        return share(spec, name, seed, trials)


def _root() -> Path:
    found = shared_folder()
    if found is None:
        raise ValueError("the data sets are not here: set SLIPWAY_SHARED to their folder")
    return found


@contextmanager
def single_process(folder: Path) -> Iterator[None]:
    """A process group of one."""
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    store = f"file://{folder}/group"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def share(spec: Spec, name: str, seed: int, trials: int) -> dict[str, Any]:
    """Steps of ASHA over those of random search, both over the same recorded points."""
    model = spec.model(name)
    assert model.tune is not None
    tune = model.tune.model_copy(update={"seed": seed, "trials": trials})
    storage = open_storage(spec.cluster.storage, spec.name)
    data = prepare(model, storage, lambda line: None).digest
    rows = PreparedData(storage, data).rows("train")
    assert rows is not None
    ladder, higher = Ladder(tune, model.train, len(rows)), model.direction == "max"
    steps, found, seconds = ladder.steps(model.train), list[list[float]](), []
    for number in range(trials):
        values = suggest(tune, number, History(), higher)
        assert values is not None
        changed = with_values(model, values, spec.root)
        began = time.process_time()
        found.append(scores(spec, name, changed, data, f"{name}-train-{seed}-{number}", steps))
        seconds.append(time.process_time() - began)
    best = (max if higher else min)(each[-1] for each in found)
    spent, reached = play(tune, found, steps, higher)
    return {
        "share": spent / (trials * steps[-1]),
        "best": best,
        "asha": reached,
        "slowest_s": max(seconds),
        "rungs": found,
    }


def scores(
    spec: Spec, name: str, model: ModelSpec, data: str, run: str, steps: list[int]
) -> list[float]:
    """Train one point to its end in this process; the metric that each rung would report."""
    changed = spec.model_copy(update={"models": spec.models | {name: model}})
    worker = Worker(Task(changed, name, run, data, 0, "fp32", until=steps[-1]), torch.device("cpu"))
    worker.work()
    worker.engine.close()
    lines = joined_metrics(Run(open_storage(spec.cluster.storage, spec.name), run))
    best = max if model.direction == "max" else min
    judged = [
        (line["step"], line["validation"][model.metric]) for line in lines if "validation" in line
    ]
    return [best(value for step, value in judged if step <= rung) for rung in steps]


def play(
    tune: TuneSpec, found: list[list[float]], steps: list[int], higher: bool
) -> tuple[int, float]:
    """Steps of a whole sweep with ASHA, one trial at a time, and the best metric it finds."""
    history, spent = History(), 0
    while True:
        leg = next_leg(tune, history, set(), len(steps), higher)
        if leg is None:
            best = history.best(higher)
            assert best is not None
            return spent, best_score(best, higher)
        if leg == START:
            leg = Leg(len(history.trials), 0)
            history.add({"event": "trial", "trial": leg.trial, "values": {}})
        spent += steps[leg.rung] - ([0, *steps])[leg.rung]
        told = {"score": found[leg.trial][leg.rung], "step": steps[leg.rung], "run": "recorded"}
        event = {"event": "score", "trial": leg.trial, "rung": leg.rung, "seconds": 0.0}
        history.add(event | told)
