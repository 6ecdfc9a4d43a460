"""What a stage's job is asked about before it starts, and how its end is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.client import JobState
from cluster.connection import Connection
from cluster.request import Request, WrongRequestError
from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.forecast import Needs
from jobs.runs import Run
from jobs.spending import OverBudgetError
from jobs.verbs import work as verb

PROVIDERS = {
    "local": "{type: local}",
    "aws": "{type: aws}",
    "onprem": "{type: onprem, head: a, hosts: [b]}",
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs that were submitted, to a cluster that is none."""
    found: list[str] = []

    def submit(connection: Any, spec: Any, run: Run, arguments: Any) -> str:
        found.append(run.id)
        return f"{run.id}-1"

    state = JobState("m-1", "SUCCEEDED", "", 0, 1.0, 2.0)
    monkeypatch.setattr(verb, "connect", lambda *_: Connection("acme", "", "http://127.0.0.1:1"))
    monkeypatch.setattr(verb, "under_way", lambda *_: None)
    monkeypatch.setattr(verb, "submit", submit)
    monkeypatch.setattr(verb, "follow", lambda *_: state)
    return found


def made(folder: Path, provider: str, more: str = "") -> tuple[Spec, Run]:
    (folder / "cluster.yaml").write_text(
        f"name: acme\ncluster:\n  provider: {PROVIDERS[provider]}\n  storage: s3://bucket/x\n"
        f"  pools: [{{name: gpu, nodes: 1, accelerators: H100:8{more}}}]\n"
        + ("  budget: 10 USD\n" if more or provider == "aws" else "")
        + "models: {m: {domain: text, task: generation, data: builtin:python-docs}}\n"
    )
    spec = load(folder / "cluster.yaml")
    storage = open_storage(type("A", (), {"url": str(folder / "store")})(), "acme")  # type: ignore[arg-type]
    return spec, Run.open(storage, "m", "train", "ab" * 32)


def work(spec: Spec, run: Run, yes: bool = False) -> int:
    needs = Needs(1, "on 1 node, 55.14 USD an hour")
    return verb.work(Request(yes=yes), spec, run, [], [], lambda: needs)


@pytest.mark.parametrize(
    ("provider", "more", "asks"),
    [
        ("local", ", price: 5 USD/h", False),
        ("onprem", "", False),
        ("onprem", ", price: 5 USD/h", True),
        ("aws", "", True),
    ],
)
def test_what_may_cost_money_asks_first(
    tmp_path: Path, started: list[str], provider: str, more: str, asks: bool
) -> None:
    spec, run = made(tmp_path, provider, more)
    if asks:
        question = f"Start {run.id} on 1 node, 55.14 USD an hour"
        with pytest.raises(WrongRequestError, match=question):
            work(spec, run)
        assert started == []
    assert work(spec, run, yes=asks) == 0
    assert started == [run.id]


def test_nothing_starts_on_a_spent_budget(tmp_path: Path, started: list[str]) -> None:
    spec, run = made(tmp_path, "aws")
    content = {"run": run.id, "submission": "s", "model": "m", "stage": "train", "pool": "gpu"}
    content |= {"nodes": 1, "began": 0.0, "until": 3600.0, "price": 55.0, "currency": "USD"}  # type: ignore[dict-item]
    run.storage.write_json("usage/1970-01/x.json", content)
    with pytest.raises(OverBudgetError, match=r"55\.00 of 10 USD"):
        work(spec, run, yes=True)
    assert started == []


def test_who_stopped_a_run_said_why(
    tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, run = made(tmp_path, "local", ", price: 5 USD/h")
    run.stopped(run.next_attempt({"resumes": None}), "the budget is used up: 10 of 10 USD")
    state = JobState("m-1", "STOPPED", "", None, 1.0, 2.0)
    monkeypatch.setattr(verb, "follow", lambda *_: state)
    with pytest.raises(ValueError, match="was stopped: the budget is used up: 10 of 10 USD; slip"):
        work(spec, run)
