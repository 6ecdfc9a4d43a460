"""Training by several workers: ZeRO's stages agree, and a run outlives its workers and drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster import client
from cluster.connection import Connection
from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.loop import Task, Worker
from tests.bench.resume import await_step, kill_at, last_step
from tests.clusters import finish, open_run, own_cluster, start_run, train
from tests.process_group import run_group
from tests.trainings import (
    MODEL,
    STAGES,
    Case,
    curve,
    largest_difference,
    prepare_data,
    train_cases,
    write_spec,
)

STEPS = 30
SETTINGS = {
    "steps": STEPS,
    "global_batch": 8,
    "micro_batch": 2,
    "workers": 2,
    "precision": "fp32",
    "zero": {"stage": 2},
    "checkpoint": {"every": 5},
}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return write_spec(tmp_path_factory.mktemp("training"), SETTINGS, {"dropout": 0.1}, name="t")


@pytest.fixture(scope="module")
def up(spec: Spec, _cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with own_cluster(spec, tmp_path_factory.mktemp("state")) as connection:
        yield connection


def weights(worker: Worker) -> dict[str, torch.Tensor] | None:
    return worker.engine.weights()


def test_stages_give_the_same_curve_and_the_same_weights(tmp_path: Path) -> None:
    settings = SETTINGS | {"steps": 10, "checkpoint": {"every": 10}}
    spec = write_spec(tmp_path, settings, {"dropout": 0.1})
    cases = [Case(stage) for stage in STAGES]
    found: list[Any] = run_group(train_cases, 2, spec, prepare_data(spec), cases, weights)[0]
    curves = [curve(spec, case.run) for case in cases]
    for stage in STAGES[1:]:
        assert len(curves[stage]) == 10
        assert largest_difference(curves[0], curves[stage]) < 1e-4
        assert found[stage].keys() == found[0].keys()
        for name, tensor in found[stage].items():
            torch.testing.assert_close(tensor, found[0][name], rtol=0, atol=1e-4)


def pause(spec: Spec, data: str) -> list[dict[str, Any]]:
    """Train once without a pause, once with two."""
    outcomes = []
    for run, until in (("whole", None), ("paused", 4), ("paused", 6), ("paused", None)):
        task = Task(spec, MODEL, f"{MODEL}-train-{run}", data, 2, "fp32", until)
        worker = Worker(task, torch.device("cpu"))
        outcomes.append(worker.work())
        worker.engine.close()
    return outcomes


def test_a_pause_leaves_no_trace(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, SETTINGS | {"steps": 10}, {"dropout": 0.1})
    whole, first, second, last = run_group(pause, 2, spec, prepare_data(spec))[0]
    assert [first["step"], second["step"]] == [4, 6]
    assert "version" not in first
    assert last["metrics"] == whole["metrics"]
    assert curve(spec, f"{MODEL}-train-paused") == curve(spec, f"{MODEL}-train-whole")


@pytest.fixture(scope="module")
def whole(up: Connection, spec: Spec) -> list[float]:
    """The curve of the run that nothing interrupts."""
    return curve(spec, train(up, spec).id)


def test_a_complete_run_is_not_run_again(up: Connection, spec: Spec, whole: list[float]) -> None:
    assert len(whole) == STEPS
    run = open_run(spec)
    finish(up, start_run(up, spec, run))
    assert len(run.attempts()) == 1
    storage = open_storage(spec.cluster.storage, spec.name)
    assert storage.folders(f"models/{MODEL}") == ["1"]


def test_a_killed_worker_leaves_no_trace(up: Connection, spec: Spec, whole: list[float]) -> None:
    run = open_run(spec, again=True)
    kill_at(up, spec, run, 12, print)
    assert largest_difference(curve(spec, run.id), whole) <= 1e-5
    assert len(run.attempts()) == 2


def test_a_killed_driver_is_resumed_by_the_same_command(
    up: Connection, spec: Spec, whole: list[float]
) -> None:
    run = open_run(spec, again=True)
    job = start_run(up, spec, run)
    await_step(run, 12)
    client.stop(up, job)
    assert run.result() is None
    assert last_step(run) < STEPS
    finish(up, start_run(up, load(spec.root / "cluster.yaml"), run))
    assert largest_difference(curve(spec, run.id), whole) <= 1e-5
    assert run.attempts()[-1].info["resumes"]["step"] >= 10
