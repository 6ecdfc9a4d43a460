"""What checkpoints cost: the share of a run's time that training pauses for them."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import torch

from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.loop import Worker
from jobs.runs import Run, joined_metrics
from jobs.task import Task
from tests.bench.result import Result, Say
from tests.bench.stores import on_s3
from tests.process_group import run_group
from tests.trainings import MODEL, prepare_data, write_spec

CLAIM = "checkpoints cost little"
EVERY = 20
HOW = (
    f"time between the steps before and after a save, beyond that between other steps, as a share "
    f"of the run; every {EVERY} steps of 121, 2 workers, 13 M parameters, in a folder and on S3 "
    "(moto)"
)
LIMIT = 0.05


def work(spec: Spec, data: str) -> None:
    """Train in this process's group."""
    worker = Worker(Task(spec, MODEL, f"{MODEL}-train-cost", data, 2, "fp32"), torch.device("cpu"))
    worker.work()
    worker.engine.close()


def measure(folder: Path, say: Say, steps: int = 6 * EVERY + 1, width: int = 256) -> Result:
    """Train once with each kind of store."""
    shares = {"folder": paused(write(folder / "local", steps, width), say)}
    write(folder / "s3", steps, width)
    with on_s3(folder / "s3") as spec:
        shares["S3"] = paused(spec, say)
    return Result(
        ", ".join(f"{share:.1%} ({name})" for name, share in shares.items()),
        f"below {LIMIT:.0%}",
        max(shares.values()) < LIMIT,
        {"shares": shares},
    )


def write(folder: Path, steps: int, width: int) -> Spec:
    """A spec in this folder, with its storage there."""
    train = {"steps": steps, "global_batch": 16, "micro_batch": 8, "workers": 2}
    train |= {"checkpoint": {"every": EVERY}, "validate": {"every": 10 * steps}}
    network = {"width": width, "layers": 4, "heads": 4}
    return write_spec(folder, train, network, name="cost")


def paused(spec: Spec, say: Say) -> float:
    """Share of the time of a run that its saves took from the training."""
    run_group(work, 2, spec, prepare_data(spec))
    run = Run(open_storage(spec.cluster.storage, spec.name), f"{MODEL}-train-cost")
    lines = joined_metrics(run)
    gaps = {
        line["step"]: after["time"] - line["time"] - after["step_s"]
        for line, after in itertools.pairwise(lines)
    }
    ordinary = statistics.median(gap for step, gap in gaps.items() if step % EVERY)
    lost = sum(gap - ordinary for step, gap in gaps.items() if step % EVERY == 0)
    whole = lines[-1]["time"] - lines[0]["time"]
    say(f"{spec.cluster.storage.url}: {lost:.2f} s of {whole:.1f} s")
    return lost / whole
