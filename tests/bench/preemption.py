"""Preemption: a worker that is asked to leave costs a step and a save."""

from __future__ import annotations

import time
from pathlib import Path

from cluster.connection import Connection
from cluster.spec import Spec
from jobs.runs import Run, latest_checkpoint
from tests.bench.killer import repeats
from tests.bench.result import Result, Say
from tests.bench.resume import TIMEOUT_S, catch, last_step
from tests.clusters import finish, open_run, own_cluster, train
from tests.trainings import curve, largest_difference, write_spec

CLAIM = "preemption costs a step"
HOW = (
    "SIGTERM to one of 2 workers at step 12 of 100, a checkpoint every 1000 steps; steps begun "
    "between the notice and the checkpoint, and those that were done twice"
)


def measure(folder: Path, say: Say) -> Result:
    """Train twice on a cluster of its own, the second time with a notice."""
    settings = {"steps": 100, "global_batch": 32, "micro_batch": 2, "workers": 2}
    settings |= {"checkpoint": {"every": 1000}}
    spec = write_spec(folder, settings, {"dropout": 0.1}, name="notice")
    with own_cluster(spec, folder / "state") as connection:
        expected = curve(spec, train(connection, spec).id)
        run = open_run(spec, again=True)
        found = notice_at(connection, spec, run, 12, say)
    worst = largest_difference(curve(spec, run.id), expected)
    return Result(
        f"saved {found['steps']} steps and {found['seconds']:.1f} s after the notice, "
        f"{found['repeated']} steps done twice; curve {worst:.1e} off",
        "at most 1 step begun after the notice, none done twice",
        found["steps"] <= 2 and found["repeated"] == 0 and worst <= 1e-5,
        {**found, "worst": worst},
    )


def notice_at(connection: Connection, spec: Spec, run: Run, at: int, say: Say) -> dict[str, float]:
    """Ask a worker to leave at a step; what was saved, and what was done twice."""
    job, victim = catch(connection, spec, run, at)
    victim.terminate()
    asked, reached = time.monotonic(), last_step(run)
    while (saved := latest_checkpoint(run)) is None or saved.step < reached:
        assert time.monotonic() - asked < TIMEOUT_S
        time.sleep(0.02)
    seconds = time.monotonic() - asked
    finish(connection, job)
    left = run.attempts()[-1].info["resumes"]["step"]
    say(f"{run.id}: notice after step {reached}, left at {left}")
    return {"steps": left - reached, "seconds": seconds, "repeated": max(repeats(run))}
