"""The budget's bounds: a warning, an end, each told once; and what is left alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cluster import notices
from cluster.spec import Spec, load
from cluster.storage import Storage, open_storage
from jobs import budget
from jobs.budget import Watch
from jobs.runs import Run
from jobs.spending import OverBudgetError, check_budget
from tests.unit.conftest import put_secret

YAML = """\
name: acme
cluster:
  pools: [{name: cpu, nodes: 1, cpus: 2, price: 3600 USD/h}]
  budget: {runs: 100 USD/month, warn: 50%}
models: {m: {domain: text, task: generation, data: builtin:python-docs}}
notify: {webhook: {secret: chat}}
"""


class Cluster:
    """Jobs that run until they are stopped."""

    def __init__(self, jobs: dict[str, str]) -> None:
        self.jobs = jobs

    def running(self) -> dict[str, str]:
        return dict(self.jobs)

    def stop(self, submission: str) -> None:
        del self.jobs[submission]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, secrets_folder: Path) -> list[dict[str, Any]]:
    put_secret(secrets_folder, "chat", "https://chat.example.com/hush")
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(notices, "post", lambda url, content: found.append(content))
    return found


def make(folder: Path) -> tuple[Spec, Storage]:
    (folder / "cluster.yaml").write_text(YAML)
    spec = load(folder / "cluster.yaml")
    return spec, open_storage(spec.cluster.storage, spec.name)


def use(storage: Storage, run: Run, began: float, until: float, ended: bool) -> None:
    content = {"run": run.id, "submission": f"{run.id}-1", "model": "m", "stage": "train"}
    content |= {"pool": "cpu", "nodes": 1, "price": 3600.0, "currency": "USD"}  # type: ignore[dict-item]
    content |= {"began": began, "until": until, "ended": ended}  # type: ignore[dict-item]
    month = time.strftime("%Y-%m", time.gmtime(began))
    storage.write_json(f"usage/{month}/{run.id}.json", content)


def test_a_warning_then_an_end(tmp_path: Path, told: list[dict[str, Any]]) -> None:
    spec, storage = make(tmp_path)
    run = Run.open(storage, "m", "train", "ab" * 32)
    number = run.next_attempt({"resumes": None})
    now = time.time()
    cluster = Cluster({f"{run.id}-1": run.id})
    watch = Watch(spec, storage, cluster.running, cluster.stop, lambda text: None)
    use(storage, run, now, now, ended=False)

    assert watch.look(now + 20) == pytest.approx(30)  # a dollar a second, and 50 are the warning's
    assert told == []
    assert watch.look(now + 51) == pytest.approx(49)
    assert watch.look(now + 55) == pytest.approx(45)
    [warning] = told
    assert "51.00 of 100 USD/month are spent (51%); at 100% runs are saved" in warning["text"]
    assert cluster.jobs

    assert watch.look(now + 101) == budget.LONGEST_S
    assert cluster.jobs == {}
    assert run.end() == {
        "state": "stopped",
        "reason": "the budget is used up: 101.00 of 100 USD/month are spent (101%)",
        "time": run.end()["time"],  # type: ignore[index]
    }
    assert run.attempts()[-1].number == number
    assert told[1]["event"] == "budget"
    assert f"stopped: {run.id}; no new run starts, services go on" in told[1]["text"]
    use(storage, run, now, now + 101, ended=True)
    watch.look(now + 160)
    assert len(told) == 2
    with pytest.raises(OverBudgetError):
        check_budget(spec, storage)


def test_the_end_is_told_even_where_nothing_runs(
    tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    spec, storage = make(tmp_path)
    run = Run.open(storage, "m", "train", "ab" * 32)
    now = time.time()
    use(storage, run, now - 200, now, ended=True)
    watch = Watch(spec, storage, dict, lambda name: None, lambda text: None)
    assert watch.look(now) == budget.LONGEST_S
    watch.look(now + 1)
    assert len(told) == 1
    assert "no run was under way" in told[0]["text"]
    assert "hush" not in json.dumps(told)


def test_a_driver_that_died_without_a_word_stops_counting(tmp_path: Path) -> None:
    spec, storage = make(tmp_path)
    run = Run.open(storage, "m", "train", "ab" * 32)
    now = time.time()
    use(storage, run, now - 500, now - 490, ended=False)
    check_budget(spec, storage)


def test_a_raised_budget_is_watched_anew(tmp_path: Path, told: list[dict[str, Any]]) -> None:
    spec, storage = make(tmp_path)
    run = Run.open(storage, "m", "train", "ab" * 32)
    now = time.time()
    use(storage, run, now - 200, now, ended=True)
    watch = Watch(spec, storage, dict, lambda name: None, lambda text: None)
    watch.look(now)
    watch.spec = load(tmp_path / "cluster.yaml", None, ("cluster.budget.runs=300 USD/month",))
    watch.look(now)
    assert ["100%" in each["text"] and "at 100%" in each["text"] for each in told] == [False, True]


def test_the_watch_ends_when_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, storage = make(tmp_path)
    monkeypatch.setattr(budget, "LONGEST_S", 0.0)
    monkeypatch.setattr(budget, "WAITING_S", 0.0)
    left = [{"a": "m"}, {}, None, {"a": "m"}, {}, {}, {}]

    def running() -> dict[str, str]:
        jobs = left.pop(0)
        if jobs is None:
            raise RuntimeError("the dashboard is away")
        return jobs

    watch = Watch(spec, storage, running, lambda name: None)
    ended: list[bool] = []
    budget.look_forever(watch, lambda: ended.append(True), patience=3)
    assert ended == [True]
    assert left == []
