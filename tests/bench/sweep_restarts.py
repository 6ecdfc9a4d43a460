"""Restarts lose nothing: a sweep whose driver is killed again and again ends as if it were not."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import psutil

from cluster import client, local
from cluster.connection import Connection
from cluster.processes import owned
from cluster.spec import Spec, load
from cluster.staging import SPEC_FILE
from cluster.storage import open_storage
from jobs.progress import parse_lines
from jobs.runs import Run, joined_metrics, list_runs
from jobs.stages import find_data_digest, sweep_digest
from jobs.submissions import submit
from tests.bench.result import Result, Say
from tests.clusters import TIMEOUT_S, finish, own_cluster
from tests.trainings import MODEL, prepare_data, write_spec
from tune.history import Event, History, Log, replay
from tune.search import suggest

CLAIM = "restarts of a sweep lose nothing"
HOW = (
    "kill -9 of the driver at random moments of a sweep (ASHA, random search, two at a time), "
    "started again each time; against the same sweep uninterrupted: logs extend each other, each "
    "(trial, rung) once, replay gives the recorded decisions, the same trials; steps trained twice"
)
LIMIT = 0.10
SETTINGS = {
    "steps": 90,
    "global_batch": 8,
    "workers": 1,
    "precision": "fp32",
    "checkpoint": {"every": 5, "keep": 2},
}


def measure(folder: Path, say: Say) -> Result:
    """TRIALS (16) and KILLS (5) may be fewer."""
    trials, kills = int(os.environ.get("TRIALS", "16")), int(os.environ.get("KILLS", "5"))
    tune = {"trials": trials, "search": "random", "scheduler": {"type": "asha", "grace": 10}}
    tune |= {"space": {"train.optimizer.lr": {"log": [1e-5, 1e-2]}}}
    spec = write_spec(folder, SETTINGS, name="restarts")
    spec = load(spec.root / "cluster.yaml", overrides=(f"models.{MODEL}.tune={json.dumps(tune)}",))
    prepare_data(spec)
    with own_cluster(spec, folder / "state") as connection:
        logs = cut(connection, spec, kills, say)
    history, again = replay(logs[-1]), repeated(spec)
    expected = uninterrupted(spec, trials)
    scores = [(e["trial"], e["rung"]) for e in logs[-1] if e["event"] == "score"]
    checks = {
        "logs extend each other": all(b[: len(a)] == a for a, b in itertools.pairwise(logs)),
        "each (trial, rung) once": len(scores) == len(set(scores)),
        "replay decides alike": replays(spec, logs[-1]),
        "the same trials": {n: t.values for n, t in history.trials.items()} == expected,
        "a version": bool(sweep_run(spec).result()),
        "none failed": not any(t.failed for t in history.trials.values()),
    }
    wrong = [name for name, holds in checks.items() if not holds]
    return Result(
        f"{kills} kills of a sweep of {trials} trials: "
        + (f"not so: {', '.join(wrong)}" if wrong else "the log and the trials are the same")
        + f"; {again:.1%} of the steps trained twice",
        f"nothing lost, below {LIMIT:.0%}",
        not wrong and again < LIMIT,
        {"checks": checks, "repeated": again},
    )


def sweep_run(spec: Spec) -> Run:
    """The run that the sweep is."""
    model, storage = spec.model(MODEL), open_storage(spec.cluster.storage, spec.name)
    digest = sweep_digest(model, find_data_digest(model, lambda line: None))
    return Run.open(storage, MODEL, "tune", digest)


def cut(connection: Connection, spec: Spec, kills: int, say: Say) -> list[list[Event]]:
    """Run the sweep to its end through the kills; its log after each, and at the end."""
    run, dice, logs = sweep_run(spec), random.Random(0), []
    arguments = ["tune.sweep", SPEC_FILE, MODEL, "--until", "train", "--run", run.id]
    for number in range(kills):
        job = submit(connection, spec, run, arguments)
        before = len(Log(run.storage, run.id).read())
        await_events(run, before + dice.randint(2, 5))
        time.sleep(dice.uniform(0.0, 5.0))
        for process in drivers(spec):
            process.kill()
        client.wait(connection, job, TIMEOUT_S)
        logs.append(Log(run.storage, run.id).read())
        say(f"kill {number + 1} after {len(logs[-1])} events")
    finish(connection, submit(connection, spec, run, arguments))
    logs.append(Log(run.storage, run.id).read())
    return logs


def await_events(run: Run, count: int) -> None:
    """Wait until the log holds so many."""
    deadline = time.monotonic() + TIMEOUT_S
    while len(Log(run.storage, run.id).read()) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run.id} has not written {count} events")
        time.sleep(0.1)


def drivers(spec: Spec) -> list[psutil.Process]:
    """The processes of this cluster that drive a sweep."""
    mark = local.home_of(spec).mark
    return [p for p in owned(mark) if "tune.sweep" in p.cmdline()]


def uninterrupted(spec: Spec, trials: int) -> dict[int, Any]:
    """The values that a random search tries, whatever happens to its driver."""
    tune = spec.model(MODEL).tune
    assert tune is not None
    return {number: suggest(tune, number, History(), False) for number in range(trials)}


def replays(spec: Spec, events: list[Event]) -> bool:
    """Whether each recorded suggestion is what its own past gives."""
    tune, history = spec.model(MODEL).tune, History()
    assert tune is not None
    for event in events:
        expected = event.get("values")
        if event["event"] == "trial":
            expected = suggest(tune, event["trial"], history, False)
        if expected != event.get("values"):
            return False
        history.add(event)
    return True


def repeated(spec: Spec) -> float:
    """Share of the trials' steps that an earlier attempt had trained already."""
    storage, trained, counted = open_storage(spec.cluster.storage, spec.name), 0, 0
    for run in list_runs(storage):
        if run.info()["stage"] != "train":
            continue
        counted += len(joined_metrics(run))
        for attempt in run.attempts():
            for entry in storage.list(attempt.path):
                if entry.path.rpartition("/")[2].startswith("metrics.jsonl"):
                    text = storage.read(entry.path).decode(errors="replace")
                    trained += len({line["step"] for line in parse_lines(text)})
    return (trained - counted) / max(1, counted)
