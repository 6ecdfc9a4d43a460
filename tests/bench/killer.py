"""Random kills: whatever process of a run ends, the curve is that of the run that nothing ended."""

from __future__ import annotations

import itertools
import os
import random
import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster import local
from cluster.connection import Connection
from cluster.parts import read_joined
from cluster.processes import owned
from cluster.spec import Spec
from jobs.progress import parse_lines
from jobs.runs import Run
from tests.bench.result import Result, Say
from tests.bench.resume import await_step, last_step
from tests.bench.stores import on_s3
from tests.clusters import OBJECT_STORE_BYTES, open_run, own_cluster, start_run, train
from tests.trainings import curve, largest_difference, write_spec

KILLS = int(os.environ.get("KILLS", "20"))
STEPS = int(os.environ.get("STEPS", "400"))
EVERY = 10
CLAIM = "resume is exact, and little is lost"
HOW = (
    f"{KILLS} kills with -9 of a random process of the run (worker, controller, driver, gcs, "
    f"dashboard, all of the head) at random steps of {STEPS}, 2 workers, fp32, dropout 0.1, a "
    f"checkpoint every {EVERY} steps"
)
MEDIAN_S = 30.0
KINDS = {
    "worker": ("RayTrainWorker",),
    "controller": ("TrainController",),
    "driver": ("jobs.pretrain",),
    "gcs": ("gcs_server",),
    "dashboard": ("dashboard/dashboard.py",),
    "head": ("raylet/raylet", "gcs_server", "dashboard/dashboard.py"),
}
KEPT = ("gcs", "dashboard")
"""The cluster starts these again by itself, and training does not stop meanwhile."""
CASES = {
    "zero-0": (0, False),
    "zero-1": (1, False),
    "zero-2": (2, False),
    "zero-3": (3, False),
    "s3": (2, True),
}
"""By the row's end of name: ZeRO stage, and whether storage is S3 (moto) instead of a folder."""
BY_HAND = ("driver", "head")
"""After these, somebody has to type the same command again."""


@dataclass
class Kills:
    """What was killed, and how long it took to the next new step."""

    kinds: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def measure(folder: Path, say: Say, sample: str) -> Result:
    """Train twice on a cluster of its own, the second time under a killer."""
    stage, remote = CASES[sample]
    settings: dict[str, Any] = {"steps": STEPS, "global_batch": 32, "micro_batch": 2, "workers": 2}
    settings |= {"precision": "fp32", "zero": {"stage": stage}, "checkpoint": {"every": EVERY}}
    spec = write_spec(folder, settings, {"dropout": 0.1}, name="killer")
    with on_s3(folder) if remote else nullcontext(spec) as stored:
        return measure_in(stored, folder / "state", say)


def measure_in(spec: Spec, state: Path, say: Say) -> Result:
    """The row's figures, from a run that nothing ended and one that the killer did."""
    with own_cluster(spec, state) as connection:
        expected = curve(spec, train(connection, spec).id)
        run = open_run(spec, again=True)
        kills = haunt(connection, spec, run, random.Random(0), say)
    worst = largest_difference(curve(spec, run.id), expected)
    repeated, median_s = repeats(run), statistics.median(kills.seconds)
    return Result(
        f"curve {worst:.1e} off after {len(kills.kinds)} kills; at most {max(repeated)} steps "
        f"repeated a kill; {median_s:.0f} s (median) from kill to next new step",
        f"0; at most {EVERY + 1}; under {MEDIAN_S:.0f} s",
        worst == 0 and max(repeated) <= EVERY + 1 and median_s < MEDIAN_S,
        {"kinds": kills.kinds, "seconds": kills.seconds, "repeated": repeated, "worst": worst},
    )


def haunt(connection: Connection, spec: Spec, run: Run, chance: random.Random, say: Say) -> Kills:
    """Run to the end, killing on the way; whoever is needed to go on is started again."""
    found = Kills()
    start_run(connection, spec, run)
    for at in sorted(chance.sample(range(2, STEPS - 2), KILLS)):
        if last_step(run) >= STEPS:
            break  # a kill that was due later was overtaken by the end of the run
        await_step(run, max(at, last_step(run) + 1))
        kind, attempts = chance.choice(list(KINDS)), len(run.attempts())
        killed = time.monotonic()
        if run.result() is not None or not kill(spec, kind):
            continue
        if kind in BY_HAND:
            connection = local.start(spec, object_store_bytes=OBJECT_STORE_BYTES)
            start_run(connection, spec, run)
        reached = await_new_step(run, attempts, ends=kind not in KEPT)
        found.kinds.append(kind)
        found.seconds.append(time.monotonic() - killed)
        say(f"killed {kind} after step {reached}: {found.seconds[-1]:.0f} s")
    await_result(run)
    return found


def await_new_step(run: Run, attempts: int, ends: bool) -> int:
    """Wait for a step that was never done before, of the next attempt where the kill ends one.

    Returns the last step that had been done. An attempt that is killed may do another step yet.
    """
    if ends:
        await_attempt(run, attempts)
        reached = max(steps_of(run, each.path) for each in run.attempts()[:attempts])
    else:
        reached = last_step(run)
    await_step(run, min(reached + 1, STEPS))
    return reached


def await_attempt(run: Run, attempts: int, timeout_s: float = 120.0) -> None:
    """Wait until there are more attempts than so many."""
    deadline = time.monotonic() + timeout_s
    while len(run.attempts()) <= attempts:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run.id} has no further attempt after {timeout_s:.0f} s")
        time.sleep(0.05)


def steps_of(run: Run, path: str) -> int:
    """The newest step that an attempt wrote down: on S3 its lines of every five seconds."""
    lines = parse_lines(read_joined(run.storage, f"{path}/metrics.jsonl"))
    return max((line["step"] for line in lines), default=0)


def kill(spec: Spec, kind: str) -> bool:
    """Kill a random process of this kind, all of the head's; False where there is none."""
    signs = KINDS[kind]
    found = [p for p in owned(local.home_of(spec).mark) if _is_one(p, signs)]
    for process in found if kind == "head" else found[-1:]:
        process.kill()
    return bool(found)


def _is_one(process: psutil.Process, signs: tuple[str, ...]) -> bool:
    try:
        words = " ".join(process.cmdline()[:4])
    except psutil.Error:
        return False
    return any(sign in words for sign in signs)


def repeats(run: Run) -> list[int]:
    """Steps that each attempt did again."""
    attempts = run.attempts()
    found = []
    for before, after in itertools.pairwise(attempts):
        resumed = (after.info["resumes"] or {"step": 0})["step"]
        found.append(max(0, steps_of(run, before.path) - resumed))
    return found or [0]


def await_result(run: Run, timeout_s: float = 900.0) -> None:
    """Wait for the end of a run."""
    deadline = time.monotonic() + timeout_s
    while run.result() is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run.id} has no result after {timeout_s:.0f} s")
        time.sleep(0.2)
