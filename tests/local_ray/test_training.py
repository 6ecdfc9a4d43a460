"""Training by several workers: ZeRO's stages agree, and a run outlives its workers and drivers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster import client
from cluster.connection import Connection
from cluster.follow import follow
from cluster.spec import Range, Spec, load
from cluster.spec.clusters import POOL
from cluster.storage import open_storage
from jobs.loop import Worker
from jobs.progress import joined_metrics
from jobs.task import Task
from tests.bench.hang import log_of, stop_at
from tests.bench.killer import await_attempt
from tests.bench.preemption import notice_at
from tests.bench.resume import await_step, kill_at, last_step
from tests.clusters import (
    another_node,
    environment_of,
    finish,
    open_run,
    own_cluster,
    start_run,
    train,
)
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

STEPS = 100
SETTINGS = {
    "steps": STEPS,
    "global_batch": 32,  # eight micro-batches a worker: steps long enough to be caught in one
    "micro_batch": 2,
    "workers": 2,
    "precision": "fp32",
    "zero": {"stage": 2},
    "checkpoint": {"every": 5},
    "validate": {"every": 50},
    "stall": "15s",
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
    with pytest.MonkeyPatch.context() as patch:
        # a local cluster's node is never drained, but in a test
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1")
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


def test_a_stopped_worker_is_named_and_its_group_started_anew(
    up: Connection, spec: Spec, whole: list[float]
) -> None:
    run = open_run(spec, again=True)
    seconds, named = stop_at(up, spec, run, 12, print)
    assert named
    assert seconds < 15 + 60  # the bound of tests/bench/hang.py is half of it, on a quiet machine
    assert largest_difference(curve(spec, run.id), whole) <= 1e-5
    assert "distributed_c10d" in log_of(run)  # where the other worker waited


def test_a_worker_that_is_asked_to_leave_saves_first(
    up: Connection, spec: Spec, whole: list[float]
) -> None:
    run = open_run(spec, again=True)
    found = notice_at(up, spec, run, 12, print)
    assert found["steps"] <= 2
    assert found["repeated"] == 0
    assert largest_difference(curve(spec, run.id), whole) <= 1e-5


def test_workers_come_and_go_with_a_node(up: Connection, spec: Spec) -> None:
    model = spec.model(MODEL)
    own = {"steps": 1500, "workers": Range(1, 4), "cpus_per_worker": 1.0}
    train = model.train.model_copy(update=own | {"restarts": 1})
    pools = tuple(pool.model_copy(update={"cpus": 4}) for pool in spec.cluster.pools)
    cluster = spec.cluster.model_copy(update={"pools": pools})  # more than it was started with
    models = {MODEL: model.model_copy(update={"train": train})}
    spec = spec.model_copy(update={"models": models, "cluster": cluster})
    run = open_run(spec)
    job = start_run(up, spec, run)
    await_step(run, 3)
    with another_node(spec, up, cpus=2) as node:
        await_attempt(run, 1)
        await_step(run, last_step(run) + 3)
        drain(node, spec, up)
        await_attempt(run, 2)
        left = last_step(run)
    await_step(run, left + 3)
    client.stop(up, job)
    attempts = run.attempts()
    assert [attempt.info["workers"] for attempt in attempts] == [2, 4, 2]
    assert attempts[2].info["resumes"]["step"] == left  # nothing is done twice
    told = log_of(run)
    assert "there is room for 4 workers" in told
    assert "a notice to leave node" in told
    steps = [line["step"] for line in joined_metrics(run)]
    assert steps == list(range(1, len(steps) + 1))


def test_a_jobs_own_process_runs_on_the_node_that_its_labels_name(
    up: Connection, spec: Spec, tmp_path: Path
) -> None:
    # asked of its supervisor: a driver itself takes any raylet of its address
    (tmp_path / "where.py").write_text(
        "import ray; ray.init(logging_level='ERROR')\n"
        "from ray.util.state import list_actors\n"
        "here = [('class_name', '=', 'JobSupervisor'), ('state', '=', 'ALIVE')]\n"
        "nodes = [actor.node_id for actor in list_actors(filters=here)]\n"
        "print('at', *nodes, ray.available_resources()['CPU'])\n"
    )
    with another_node(spec, up, cpus=2) as node:
        name = client.submit(up, "t-0000", 1, ["where.py"], tmp_path, labels={POOL: "away"})
        assert f"at {node} 4.0\n" in "".join(follow(up, name))  # and takes nothing from workers


def drain(node: str, spec: Spec, up: Connection) -> None:
    """What an autoscaler says of a node that a cloud is about to take away."""
    options = [f"--address={up.address}", f"--node-id={node}", "--reason-message=spot"]
    reason = "--reason=DRAIN_NODE_REASON_PREEMPTION"
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", *options, reason]
    command.append("--deadline-remaining-seconds=60")
    subprocess.run(command, env=environment_of(spec), check=True)


def test_a_stopped_run_has_saved_and_is_resumed_by_the_same_command(
    up: Connection, spec: Spec, whole: list[float]
) -> None:
    run = open_run(spec, again=True)
    job = start_run(up, spec, run)
    await_step(run, 12)
    client.stop(up, job)
    assert run.result() is None
    left = last_step(run)
    assert left < STEPS
    finish(up, start_run(up, load(spec.root / "cluster.yaml"), run))
    assert largest_difference(curve(spec, run.id), whole) <= 1e-5
    assert run.attempts()[-1].info["resumes"]["step"] == left  # nothing is done twice
