"""Little overhead: a sweep against plain Ray Tune, and against as many trainings in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cluster.connection import Connection
from cluster.spec import Spec, load
from cluster.staging import SPEC_FILE
from cluster.storage import open_storage
from jobs.runs import Run
from jobs.stages import find_data_digest, sweep_digest
from jobs.submissions import submit
from tests.bench.result import Result, Say
from tests.clusters import finish, own_cluster, train
from tests.trainings import MODEL, prepare_data, write_spec

CLAIM = "a sweep has little overhead"
HOW = (
    "wall time of trials of a 10-second function, two at a time, against plain Ray Tune; and of "
    "a sweep of real trials (one worker with one thread each, from submission to version) against "
    "as many trainings submitted in turn, one and two trials at a time"
)
FUNCTION, ONE, TWO = 1.05, 1.1, 0.65
ROOT = Path(__file__).parents[2]
SETTINGS = {
    "steps": 60,
    "global_batch": 16,
    "workers": 1,
    "precision": "fp32",
    "cpus_per_worker": 1,
}


def measure(folder: Path, say: Say) -> Result:
    """Both comparisons; FUNCTION_TRIALS (32) and TRIALS (8) may be fewer."""
    calls = int(os.environ.get("FUNCTION_TRIALS", "32"))
    trials = int(os.environ.get("TRIALS", "8"))
    spec = write_spec(folder, SETTINGS, name="sweeping")
    prepare_data(spec)
    with own_cluster(spec, folder / "state") as connection:
        function = functions(connection, folder, calls)
        say(f"{calls} trials of a function: {function['ours']:.0f} s, {function['plain']:.0f} s")
        began = time.monotonic()
        for number in range(trials):
            train(connection, changed(spec, number))
        turn = time.monotonic() - began
        say(f"{trials} trainings in turn: {turn:.0f} s")
        ratios = {}
        for parallel in (1, 2):
            took = swept(connection, spec, trials, parallel)
            ratios[parallel] = took / turn
            say(f"{parallel} at a time: {took:.0f} s, {ratios[parallel]:.2f}")
    overhead = function["ours"] / function["plain"]
    return Result(
        f"{overhead:.3f} of Ray Tune's time for {calls} trials of a function; {ratios[1]:.2f} of "
        f"{trials} trainings in turn one at a time, {ratios[2]:.2f} two at a time",
        f"at most {FUNCTION}; {ONE}; {TWO}",
        overhead <= FUNCTION and ratios[1] <= ONE and ratios[2] <= TWO,
        {"function": function, "in_turn_s": turn, "ratios": ratios},
    )


def changed(spec: Spec, number: int, tune: dict[str, Any] | None = None) -> Spec:
    """The spec with another learning rate or a section ``tune:``."""
    path = spec.root / "cluster.yaml"
    changes = [f"models.{MODEL}.train.optimizer.lr={1e-3 * (1 + number)}"]
    if tune is not None:
        changes = [f"models.{MODEL}.tune={json.dumps(tune)}"]
    return load(path, overrides=tuple(changes))


def swept(connection: Connection, spec: Spec, trials: int, parallel: int) -> float:
    """Seconds of a sweep whose trials all train to their end, from submission to version."""
    tune = {"trials": trials, "parallel": parallel, "search": "random", "scheduler": "none"}
    tune |= {"seed": parallel, "space": {"train.optimizer.weight_decay": {"log": [1e-3, 1e-1]}}}
    spec = changed(spec, 0, tune)
    model, began = spec.model(MODEL), time.monotonic()
    storage = open_storage(spec.cluster.storage, spec.name)
    digest = sweep_digest(model, find_data_digest(model, lambda line: None))
    run = Run.open(storage, MODEL, "tune", digest)
    arguments = ["tune.sweep", SPEC_FILE, MODEL, "--until", "train", "--run", run.id]
    finish(connection, submit(connection, spec, run, arguments))
    return time.monotonic() - began


def functions(connection: Connection, folder: Path, calls: int) -> dict[str, float]:
    """Seconds that our driver and plain Ray Tune take for a function, in a process of its own."""
    environment = os.environ | connection.env()
    command = [sys.executable, "-m", "tests.bench.sweep_function", str(folder), str(calls)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"tests/bench/sweep_function.py failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads((folder / "function.json").read_text())
    return found
