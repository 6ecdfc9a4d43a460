"""A sweep on a cluster: killed in its middle it goes on, and its best trial becomes a version."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import client
from cluster.connection import Connection
from cluster.spec import Spec, load
from cluster.spec.tune import TuneSpec
from cluster.staging import SPEC_FILE
from cluster.storage import Storage, open_storage
from jobs.bundles import resolve
from jobs.lineage import trace
from jobs.runs import Run, joined_metrics
from jobs.stages import find_data_digest, sweep_digest
from jobs.submissions import submit
from tests.clusters import TIMEOUT_S, finish, own_cluster
from tests.trainings import MODEL, write_spec
from tune.history import Log, replay

SETTINGS = {"steps": 9, "global_batch": 8, "workers": 1, "precision": "fp32"}
TUNE = {
    "trials": 4,
    "search": "random",
    "scheduler": {"type": "asha", "grace": "3 steps"},
    "space": {"train.optimizer.lr": {"log": [1e-5, 1e-2]}},
}


@pytest.fixture
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    folder = tmp_path_factory.mktemp("sweep")
    write_spec(folder, SETTINGS)
    path = folder / "cluster.yaml"
    document = json.loads(path.read_text())
    document["models"][MODEL]["tune"] = TUNE
    path.write_text(json.dumps(document))
    return load(path)


@pytest.fixture
def up(spec: Spec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        with own_cluster(spec, tmp_path_factory.mktemp("state")) as connection:
            yield connection


def swept(spec: Spec, **tune: Any) -> tuple[Spec, Run]:
    """The spec with another section ``tune:``, and the run that its sweep is."""
    model = spec.model(MODEL)
    section = TuneSpec.model_validate(TUNE | tune)
    spec = spec.model_copy(update={"models": {MODEL: model.model_copy(update={"tune": section})}})
    storage = open_storage(spec.cluster.storage, spec.name)
    digest = sweep_digest(spec.model(MODEL), find_data_digest(spec.model(MODEL), print))
    return spec, Run.open(storage, MODEL, "tune", digest)


def start(connection: Connection, spec: Spec, run: Run) -> str:
    arguments = ["tune.sweep", SPEC_FILE, MODEL, "--until", "evaluate", "--run", run.id]
    return submit(connection, spec, run, arguments)


def await_scores(run: Run, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        events = Log(run.storage, run.id).read()
        if sum(event["event"] == "score" for event in events) >= count:
            return events
        assert time.monotonic() < deadline, f"{run.id} has not {count} scores"
        time.sleep(0.2)


def test_a_sweep_outlives_its_driver(up: Connection, spec: Spec) -> None:
    spec, run = swept(spec)
    storage = run.storage
    job = start(up, spec, run)
    before = await_scores(run, 1)
    client.stop(up, job)
    finish(up, start(up, spec, run))
    events = Log(storage, run.id).read()
    assert events[: len(before)] == before
    scores = [(e["trial"], e["rung"]) for e in events if e["event"] == "score"]
    assert len(scores) == len(set(scores))
    history = replay(events)
    assert len(history.trials) == 4
    assert not any(trial.failed for trial in history.trials.values())
    result = run.result()
    assert result is not None
    best = history.best(higher=False)
    assert best is not None
    assert best.rung == 1
    assert result["values"] == best.values
    version = resolve(storage, f"{MODEL}@{result['version']}")
    assert version.bundle["run"] == best.run
    assert version.held_back is not None
    report = storage.local_path(f"sweeps/{run.id}/report.html")
    assert isinstance(report, Path)
    assert "What to set" in report.read_text()
    assert sweep_of(storage, version.name)["name"] == run.id


def sweep_of(storage: Storage, version: str) -> dict[str, Any]:
    """The sweep that the lineage of a version names."""
    made_from = trace(storage, version).as_dict()["from"]
    [found] = [node for node in made_from if node["kind"] == "sweep"]
    return dict(found)


def test_the_worse_goes_on_from_the_better_ones_checkpoint(up: Connection, spec: Spec) -> None:
    population = {"type": "pbt", "every": "3 steps", "share": "50%"}
    spec, run = swept(spec, trials=2, scheduler=population)
    finish(up, start(up, spec, run))
    history = replay(Log(run.storage, run.id).read())
    assert [trial.rung for trial in history.trials.values()] == [2, 2]
    assert not any(trial.failed for trial in history.trials.values())
    [moved] = [t for t in history.trials.values() if t.stretches[1:2] and t.stretches[1].since == 1]
    origin = moved.stretches[1].origin
    assert origin is not None
    child = Run(run.storage, moved.runs[1])
    lines, parent = joined_metrics(child), joined_metrics(Run(run.storage, origin.run))
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[:3] == parent[:3]
    values = moved.stretches[1].values
    assert lines[3]["lr"] < values["train.optimizer.lr"]
    assert (lines[3]["lr"] == parent[3]["lr"]) == (
        values == history.trials[1 - moved.number].stretches[0].values
    )
    assert run.result() is not None
