"""What a group of workers asks of Ray, and what follows when it has ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.allocator import KEEP_MEMORY
from cluster.spec import Range, Spec, load
from cluster.storage import open_storage
from jobs import fit as module
from jobs.fit import fit
from jobs.group import Ended, Group, failure, room
from jobs.placement import Placement
from jobs.runs import Run
from jobs.task import Task
from tests.trainings import MODEL, write_spec


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    train = {"steps": 1, "global_batch": 2, "workers": 2, "restarts": 1}
    return write_spec(tmp_path, train)


@pytest.fixture
def run(spec: Spec) -> Run:
    storage = open_storage(spec.cluster.storage, spec.name)
    return Run.open(storage, MODEL, "train", "7f3a" + "0" * 60)


def test_what_workers_run_with(monkeypatch: pytest.MonkeyPatch, spec: Spec, run: Run) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("jobs.group.Trainer", lambda work, **more: asked.update(more))
    task = Task(spec, MODEL, run.id, "data", 0, "fp32")
    Group(task, run, Placement(2, 0, "fp32"), without=["b", "a"])._trainer(watch=None)
    assert asked["run_config"].worker_runtime_env == {"env_vars": KEEP_MEMORY}
    assert asked["run_config"].failure_config.max_failures == 0
    assert asked["scaling_config"].num_workers == 2
    assert asked["scaling_config"].label_selector == {"ray.io/node-id": "!in(a,b)"}
    assert asked["backend_config"].timeout_s > spec.model(MODEL).train.stall


def test_workers_may_share_an_accelerator(
    monkeypatch: pytest.MonkeyPatch, spec: Spec, run: Run
) -> None:
    monkeypatch.setattr("jobs.group.on_gpus", lambda *_: True)
    task = Task(spec, MODEL, run.id, "data", 0, "fp32")
    group = Group(task, run, Placement(2, 0, "fp32"))
    group.train = group.train.model_copy(update={"accelerator_share": 0.25})
    scaling = group._scaling()
    assert scaling.resources_per_worker == {"CPU": 1.0, "GPU": 0.25}


@pytest.mark.parametrize(
    ("workers", "without", "expected"), [(2, [], 4), (2, ["b"], 2), ("1..4", [], 2)]
)
def test_workers_ask_for_what_the_nodes_that_are_left_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: Any, without: list[str], expected: int
) -> None:
    """Two nodes of four CPUs in the file: one is avoided, or gone."""
    spec = write_spec(tmp_path, {"steps": 1, "global_batch": 4, "workers": workers})
    pools = load(spec.root / "cluster.yaml", overrides=("cluster.pools=[{name: c, cpus: 4}]",))
    pool = pools.cluster.pools[0].model_copy(update={"nodes": Range(2, 2)})
    cluster = pools.cluster.model_copy(update={"pools": (pool,)})
    spec = pools.model_copy(update={"cluster": cluster})
    there = ["a", "b"] if without else ["a"]
    nodes = [
        {"NodeID": name, "Alive": True, "Resources": {"CPU": 4.0}, "Labels": {}} for name in there
    ]
    monkeypatch.setattr("jobs.group.ray.nodes", lambda: nodes)
    storage = open_storage(spec.cluster.storage, spec.name)
    run = Run.open(storage, MODEL, "train", "7f3a" + "0" * 60)
    task = Task(spec, MODEL, run.id, "data", 0, "fp32")
    group = Group(task, run, Placement(2, 0, "fp32"), without=without)
    assert group._scaling().resources_per_worker == {"CPU": float(expected)}


def test_workers_stay_in_their_pool(monkeypatch: pytest.MonkeyPatch, spec: Spec, run: Run) -> None:
    """Another pool's nodes are neither asked for nor counted, though they would be large enough."""
    labels = {"slipway/pool": "gpu"}
    monkeypatch.setattr("jobs.group.on_pool", lambda cluster, pool: dict(labels))
    group = Group(
        Task(spec, MODEL, run.id, "d", 0, "fp32"), run, Placement(2, 0, "fp32"), None, "a"
    )
    assert group._scaling().label_selector == labels | {"ray.io/node-id": "!in(a)"}
    there = [("b", labels | {"ray.io/node-id": "b"}), ("c", {"slipway/pool": "cpu"}), ("d", {})]
    nodes = [{"NodeID": n, "Alive": True, "Resources": {"CPU": 4}, "Labels": x} for n, x in there]
    monkeypatch.setattr("jobs.group.ray.nodes", lambda: nodes)
    assert room(spec, spec.model(MODEL), False, fixed=True) == 4


def end_with(monkeypatch: pytest.MonkeyPatch, *ends: Ended) -> list[int]:
    """Have groups end so, one after another; the number of those that were started."""
    left, started = list(ends), list[int]()

    class Groups:
        def __init__(self, *_: Any) -> None:
            started.append(1)

        def run(self) -> Ended:
            return left.pop(0)

    monkeypatch.setattr(module, "Group", Groups)
    return started


def test_another_group_follows_one_that_left_or_failed(
    monkeypatch: pytest.MonkeyPatch, spec: Spec, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    left = Ended(outcome={"left": "SIGTERM", "avoid": [], "step": 3})
    ends = [left, Ended(failure="worker 1 died"), left, Ended(outcome={"version": 1})]
    started = end_with(monkeypatch, *ends)
    assert fit(spec, MODEL, run, "data") == {"version": 1}
    assert len(started) == 4
    told = capsys.readouterr().out
    assert "its workers left (SIGTERM), no checkpoint is saved yet" in told
    assert "worker 1 died" in told


def test_a_run_that_is_asked_to_stop_starts_no_other_group(
    monkeypatch: pytest.MonkeyPatch, spec: Spec, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    groups: list[Group] = []

    def leave(group: Group) -> Ended:
        groups.append(group)
        os.kill(os.getpid(), signal.SIGTERM)
        assert group._asked.wait(5)
        return Ended(outcome={"left": "it was asked to stop", "step": 3})

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Group, "run", leave)
    with pytest.raises(SystemExit) as ended:
        fit(spec, MODEL, run, "data")
    assert (ended.value.code, len(groups)) == (143, 1)
    assert signal.getsignal(signal.SIGTERM) == before
    assert f"{run.id}: stopped as asked" in capsys.readouterr().out


def test_too_many_failures_end_a_run(monkeypatch: pytest.MonkeyPatch, spec: Spec, run: Run) -> None:
    run.next_attempt({"resumes": None})
    end_with(monkeypatch, Ended(failure="worker 1 died"), Ended(failure="worker 0 died"))
    with pytest.raises(ValueError, match="worker 0 died; no checkpoint is saved yet"):
        fit(spec, MODEL, run, "data")
    assert (run.end() or {})["reason"] == "worker 0 died"


def test_a_superseded_group_says_nothing_of_the_run(
    monkeypatch: pytest.MonkeyPatch, spec: Spec, run: Run
) -> None:
    run.next_attempt({"resumes": None})
    end_with(monkeypatch, Ended(outcome={"superseded": "attempt 2 has taken over from 1"}))
    with pytest.raises(ValueError, match="taken over"):
        fit(spec, MODEL, run, "data")
    assert run.end() is None


def test_the_cause_of_a_failure() -> None:
    error = RuntimeError("workers failed")
    error.worker_failures = {  # type: ignore[attr-defined]
        1: ValueError("later"),
        0: ValueError("a traceback\nValueError: first"),
    }
    assert failure(error) == "training failed on worker 0: ValueError: first"
    assert failure(RuntimeError("the actor died\nbecause")) == "training failed: the actor died"


def test_what_starts_one_after_the_other_does_without_torch() -> None:
    """The driver, and Ray Train's controller, which reads what the trainer was given."""
    program = (
        "import sys, tune.sweep, jobs.pretrain, jobs.crew, jobs.trainer;"
        "print({'torch', 'deepspeed', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data")
def test_no_process_for_data_sets_of_rays(spec: Spec, run: Run) -> None:
    task = Task(spec, MODEL, run.id, "data", 0, "fp32")
    trainer = Group(task, run, Placement(2, 0, "fp32"))._trainer(watch=None)
    names = {type(each).__name__ for each in trainer._create_default_callbacks()}
    assert "DatasetsCallback" not in names
    assert "PlacementGroupCleanerCallback" in names
