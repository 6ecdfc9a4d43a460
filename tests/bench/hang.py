"""A hang: a worker that is stopped is noticed, named, and its group started anew."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from cluster.connection import Connection
from cluster.spec import Spec
from jobs.runs import Run
from tests.bench.result import Result, Say
from tests.bench.resume import await_step, catch, last_step
from tests.clusters import finish, open_run, own_cluster, train
from tests.trainings import curve, largest_difference, write_spec

CLAIM = "a hang is noticed"
STALL_S = 20.0
HOW = (
    f"one of 2 workers stopped with SIGSTOP at step 12 of 100, stall: {STALL_S:.0f}s, a checkpoint "
    "every 5 steps; seconds to the next attempt's first step, and whether the log names the worker"
)
SETTINGS = {
    "steps": 100,
    "global_batch": 32,
    "micro_batch": 2,
    "workers": 2,
    "precision": "fp32",
    "zero": {"stage": 2},
    "checkpoint": {"every": 5},
    "stall": f"{STALL_S:.0f}s",
}


def measure(folder: Path, say: Say) -> Result:
    """Train twice on a cluster of its own, the second time with a worker that stops."""
    spec = write_spec(folder, SETTINGS, {"dropout": 0.1}, name="hang")
    with own_cluster(spec, folder / "state") as connection:
        expected = curve(spec, train(connection, spec).id)
        run = open_run(spec, again=True)
        seconds, named = stop_at(connection, spec, run, 12, say)
    worst = largest_difference(curve(spec, run.id), expected)
    bound_s = STALL_S + 30
    return Result(
        f"{seconds:.0f} s, {'named' if named else 'not named'}; curve {worst:.1e} off",
        f"at most {bound_s:.0f} s, named",
        seconds <= bound_s and named and worst <= 1e-5,
        {"seconds": seconds, "worst": worst},
    )


def stop_at(connection: Connection, spec: Spec, run: Run, at: int, say: Say) -> tuple[float, bool]:
    """Stop a worker at a step; seconds until a step of the next attempt, and is it named."""
    job, victim = catch(connection, spec, run, at)
    victim.send_signal(signal.SIGSTOP)
    stopped, reached = time.monotonic(), last_step(run)
    say(f"{run.id}: stopped process {victim.pid} after step {reached}")
    await_step(run, reached + 2)
    seconds = time.monotonic() - stopped
    finish(connection, job)
    return seconds, f"(process {victim.pid}) does not answer" in log_of(run)


def log_of(run: Run) -> str:
    """Everything that the run's drivers printed."""
    entries = run.storage.list(f"{run.path}/logs")
    return "".join(run.storage.read(entry.path).decode() for entry in entries)
