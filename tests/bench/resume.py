"""Resume: a worker killed with -9 in mid-run leaves no trace in the curve."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from cluster.connection import Connection
from cluster.spec import Spec
from jobs.runs import Run, joined_metrics
from tests.bench.result import Result, Say
from tests.clusters import (
    TIMEOUT_S,
    finish,
    open_run,
    own_cluster,
    start_run,
    train,
    training_workers,
)
from tests.trainings import curve, largest_difference, write_spec

CLAIM = "resume"
HOW = (
    "a worker killed with -9 at step 25 of 50, 2 workers, fp32, dropout on, a checkpoint "
    "every 10 steps, through the job's entry point; against the uninterrupted curve"
)
LIMIT = 1e-5


def measure(
    folder: Path,
    say: Say,
    steps: int = 50,
    at: int = 25,
    every: int = 10,
    sample: str = "language",
) -> Result:
    """Train twice on a cluster of its own, the second time with a kill."""
    settings = {
        "steps": steps,
        "global_batch": 16,
        "micro_batch": 4,
        "workers": 2,
        "precision": "fp32",
        "zero": {"stage": 2},
        "checkpoint": {"every": every},
    }
    larger = {"width": 128, "dropout": 0.1} if sample == "language" else {}
    spec = write_spec(folder, settings, larger, name="resume", sample=sample)
    with own_cluster(spec, folder / "state") as connection:
        whole = train(connection, spec)
        say(f"{whole.id}: {steps} steps without interruption")
        cut = open_run(spec, again=True)
        recovery_s = kill_at(connection, spec, cut, at, say)
    expected, found = curve(spec, whole.id), curve(spec, cut.id)
    complete = len(expected) == len(found) == steps
    worst = largest_difference(expected, found) if complete else float("inf")
    attempts = [attempt.info.get("resumes") for attempt in cut.attempts()]
    return Result(
        f"{worst:.1e}; {recovery_s:.0f} s from the kill to the next new step",
        f"at most {LIMIT:.0e}",
        worst <= LIMIT and len(attempts) == 2,
        {"recovery_s": recovery_s, "resumes": attempts, "expected": expected, "found": found},
    )


def kill_at(connection: Connection, spec: Spec, run: Run, at: int, say: Say) -> float:
    """Start the run, kill a worker at step ``at``; seconds until a step beyond what it had done."""
    job, victim = catch(connection, spec, run, at)
    victim.kill()
    killed, reached = time.monotonic(), last_step(run)
    say(f"{run.id}: killed process {victim.pid} after step {reached}")
    await_step(run, reached + 1)
    recovery_s = time.monotonic() - killed
    finish(connection, job)
    return recovery_s


def catch(connection: Connection, spec: Spec, run: Run, at: int) -> tuple[str, psutil.Process]:
    """Start the run and wait for a step: its job, and one of its two workers, to be acted on."""
    job = start_run(connection, spec, run)
    await_step(run, 1)
    workers = training_workers(spec)  # takes longer than a step of a small network
    assert len(workers) == 2, f"expected 2 training workers, found {workers}"
    await_step(run, at)
    return job, workers[-1]


def last_step(run: Run) -> int:
    """The newest step that the run's metrics hold."""
    lines = joined_metrics(run)
    return int(lines[-1]["step"]) if lines else 0


def await_step(run: Run, step: int) -> None:
    """Wait until the metrics hold ``step``."""
    deadline = time.monotonic() + TIMEOUT_S
    while last_step(run) < step:
        if (run.result() or run.end()) is not None and last_step(run) < step:
            raise AssertionError(f"{run.id} ended before step {step}: {run.end() or 'complete'}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run.id} did not reach step {step} in {TIMEOUT_S:.0f} s")
        time.sleep(0.02)
