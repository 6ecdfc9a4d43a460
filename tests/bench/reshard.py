"""Re-sharding: another number of workers, ZeRO stage or precision carries the same training on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from cluster.spec import Spec
from jobs.loop import Worker
from jobs.task import Task
from tests.bench.result import Result, Say
from tests.process_group import run_group
from tests.trainings import MODEL, curve, largest_difference, prepare_data, write_spec

CLAIM = "re-sharding is exact"
HOW = (
    "2 workers for 5 steps, then 1 for 5, then 4 for 20, at ZeRO 1, 2 and 3, and at a stage of "
    "its own for each number of workers; fp32; the last 20 steps against the uninterrupted curve"
)
LIMIT = 1e-5
ROUTES = {"1": (1, 1, 1), "2": (2, 2, 2), "3": (3, 3, 3), "0-3-1": (0, 3, 1), "2-0-3": (2, 0, 3)}
"""Name of a run -> its stage while 2, 1 and 4 workers hold it."""
Leg = tuple[str, int, int | None]
"""(run, stage, step to pause at)"""


def legs(spec: Spec, data: str, wanted: Sequence[Leg]) -> None:
    """Take each run further in this process's group."""
    for run, stage, until in wanted:
        task = Task(spec, MODEL, run_id(run), data, stage, "fp32", until)
        worker = Worker(task, torch.device("cpu"))
        worker.work()
        worker.engine.close()


def run_id(name: str) -> str:
    """The run of a route."""
    return f"{MODEL}-train-{name}"


def measure(folder: Path, say: Say, first: int = 5, second: int = 10, steps: int = 30) -> Result:
    """Train in groups of 2, 1 and 4 processes, and once in a group of 2 without a change."""
    train = {"steps": steps, "global_batch": 8, "workers": 2, "checkpoint": {"every": 1000}}
    spec = write_spec(folder, train)
    data = prepare_data(spec)
    whole: list[Leg] = [("whole", 1, None)]
    for place, (workers, until) in enumerate(((2, first), (1, second), (4, None))):
        wanted: list[Leg] = [(name, route[place], until) for name, route in ROUTES.items()]
        run_group(legs, workers, spec, data, wanted + (whole if place == 0 else []))
    expected = curve(spec, run_id("whole"))
    found = {name: curve(spec, run_id(name)) for name in ROUTES}
    worst = {
        name: largest_difference(expected[second:], losses[second:])
        for name, losses in found.items()
    }
    for name, difference in worst.items():
        say(f"stages {name}: {difference:.1e}")
    figure = max(worst.values())
    return Result(
        f"{figure:.1e} at most",
        f"at most {LIMIT:.0e}",
        figure <= LIMIT and len(expected) == steps,
        {"differences": worst, "expected": expected, "found": found},
    )
