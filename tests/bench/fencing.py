"""Fencing: an attempt that wakes up after its successor has taken over changes nothing."""

from __future__ import annotations

import hashlib
import re
import signal
import time
from pathlib import Path

import psutil

from cluster import local
from cluster.connection import Connection
from cluster.processes import is_running, owned
from cluster.spec import Spec
from jobs.runs import Run
from tests.bench.result import Result, Say
from tests.bench.resume import await_step
from tests.clusters import finish, open_run, own_cluster, start_run
from tests.trainings import write_spec

CLAIM = "fencing holds"
HOW = (
    "driver, controller and workers of a run stopped with SIGSTOP at step 12 of 100; the same "
    "command again takes over when the lease has expired, and finishes; SIGCONT; digests of "
    "everything but logs and the first attempt's own metrics and meter before and after"
)
MINE = ("RayTrainWorker", "TrainController", "jobs.pretrain", "ray::Watch")
WAKE_S = 90.0
NOT_READ = re.compile(
    r"runs/[^/]+/(1/(metrics|tensorboard)|logs/|lease|ray/|submissions/)"
    r"|usage/[^/]+/[^/]+-1-train\.json"  # it held its processors, and says until when
)


def measure(folder: Path, say: Say) -> Result:
    """Let one run be taken over, and wake up who had it."""
    train = {"steps": 100, "global_batch": 32, "micro_batch": 2, "workers": 2, "stall": "10m"}
    train |= {"cpus_per_worker": 0.5, "checkpoint": {"every": 5}}
    spec = write_spec(folder, train, name="fencing")
    with own_cluster(spec, folder / "state") as connection:
        run = open_run(spec)
        before, after, woken = wake(connection, spec, run, say)
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    return Result(
        f"{len(changed)} of {len(before)} files changed by {woken} processes that woke up",
        "none changed, 4 woken at least",
        not changed and woken >= 4 and len(run.attempts()) == 2,
        {"changed": changed},
    )


def wake(
    connection: Connection, spec: Spec, run: Run, say: Say
) -> tuple[dict[str, str], dict[str, str], int]:
    """Digests before and after the first attempt woke up, and how many processes that were."""
    start_run(connection, spec, run)
    await_step(run, 1)
    stopped = [p for p in owned(local.home_of(spec).mark) if _is_of_run(p)]
    await_step(run, 12)
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    say(f"stopped {len(stopped)} processes")
    finish(connection, start_run(connection, spec, run))
    before = digests(run)
    alive = [process for process in stopped if is_running(process)]
    for process in alive:
        process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + WAKE_S
    while any(map(is_running, alive)) and time.monotonic() < deadline:
        time.sleep(0.5)
    say(f"{sum(map(is_running, alive))} of {len(alive)} woken processes are left")
    return before, digests(run), len(alive)


def _is_of_run(process: psutil.Process) -> bool:
    try:
        words = " ".join(process.cmdline()[:4])
    except psutil.Error:
        return False
    return any(sign in words for sign in MINE)


def digests(run: Run) -> dict[str, str]:
    """SHA-256 of every stored file that anyone reads."""
    paths = [e.path for e in run.storage.list() if not NOT_READ.match(e.path)]
    return {path: hashlib.sha256(run.storage.read(path)).hexdigest() for path in paths}
