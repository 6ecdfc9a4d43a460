"""Input never starves the step: time inside the next-batch call, and speed on a constant batch."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from cluster.spec import Spec
from jobs.feed import Batch, Feed
from jobs.loop import Worker
from jobs.runs import Run, joined_metrics
from jobs.task import Task
from tests.bench.result import Result, Say
from tests.process_group import run_group
from tests.trainings import MODEL, prepare_data, write_spec

CLAIM = "input never starves the step"
HOW = (
    "time inside the next-batch call as a share of step time, and tokens/s against the same run "
    "fed one constant batch; 2 workers, five alternating pairs of runs, medians"
)
LONGEST_SHARE, SLOWEST = 0.02, 0.98
WARM_STEPS = 5


class ConstantFeed(Feed):
    """Gives the first step's micro-batches for ever."""

    def next(self, device: torch.device) -> list[Batch]:
        """Return the same batches as before."""
        self.waited_s = 0.0
        return self._ahead.result()


def measure(
    folder: Path,
    say: Say,
    pairs: int = 5,
    steps: int = 60,
    network: dict[str, Any] | None = None,
) -> Result:
    """Alternate both feeds in one process group."""
    train = {"steps": steps, "global_batch": 16, "micro_batch": 8, "workers": 2}
    spec = write_spec(folder, train, network or {"layers": 4, "width": 192, "context": 128})
    lines = run_group(alternate, 2, spec, prepare_data(spec), pairs)[0]
    shares = [share(real) for real, _ in lines]
    ratios = [speed(real) / speed(constant) for real, constant in lines]
    for number, (waiting, ratio) in enumerate(zip(shares, ratios, strict=True), 1):
        say(f"pair {number}: {waiting:.2%} of step time, {ratio:.3f} of the constant batch's speed")
    waiting, ratio = statistics.median(shares), statistics.median(ratios)
    return Result(
        f"{waiting:.2%} of step time; {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        f"below {LONGEST_SHARE:.0%}; at least {SLOWEST}",
        waiting < LONGEST_SHARE and ratio >= SLOWEST,
        {"shares": shares, "ratios": ratios},
    )


def alternate(spec: Spec, data: str, pairs: int) -> list[tuple[Any, Any]]:
    """Train ``pairs`` times with each feed; the metrics of both."""
    return [
        (_train(spec, data, f"real-{n}", Feed), _train(spec, data, f"constant-{n}", ConstantFeed))
        for n in range(pairs)
    ]


def _train(spec: Spec, data: str, name: str, feed: type[Feed]) -> list[dict[str, Any]]:
    task = Task(spec, MODEL, name, data, 2, "fp32")
    with mock.patch("jobs.loop.Feed", feed):
        worker = Worker(task, torch.device("cpu"))
        worker.work()
        worker.engine.close()
    torch.distributed.barrier()
    return joined_metrics(Run(worker.storage, name))[WARM_STEPS:-1]


def share(lines: list[dict[str, Any]]) -> float:
    """Seconds in the next-batch call per second of steps."""
    return sum(line["data_s"] for line in lines) / sum(line["step_s"] for line in lines)


def speed(lines: list[dict[str, Any]]) -> float:
    """Steps per second, journal and all."""
    return (len(lines) - 1) / float(lines[-1]["time"] - lines[0]["time"])
