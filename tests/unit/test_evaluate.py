"""Evaluations: figures with intervals, the worst mistakes, a report that runs no user's text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cluster.spec import parse_model
from cluster.storage import Storage, open_storage
from jobs import evaluate as evaluation
from jobs.bundles import resolve
from jobs.domains.details import Examples, Matrix, Shown, Table
from jobs.report import Report, render, shown
from tests.fake_domain import SPEC, FakeDomain, put_data, put_version

EVIL = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\x00\ud800"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluation, "_opened", lambda storage, version: _open(storage, version))
    address = SimpleNamespace(url=str(tmp_path / "store"))
    return SimpleNamespace(cluster=SimpleNamespace(storage=address), name="acme")


def _open(storage: Storage, version: Any) -> Any:
    folder = storage.local_path(version.path)
    assert folder is not None
    return FakeDomain(folder), folder


def test_evaluation_of_held_back_data(project: Any) -> None:
    storage = open_storage(project.cluster.storage, project.name)
    put_version(storage, put_data(storage, "d1"), shift=0.5)
    found = evaluation.evaluate(project, "tickets")
    kept = resolve(storage, "tickets@1").evaluations["d1-test"]
    assert kept == found
    low, high = found["intervals"]["accuracy"]
    assert 0.5 < low < found["metrics"]["accuracy"] < high < 1
    assert {"p50_ms", "p99_ms"} <= set(found["metrics"])
    assert "p50_ms" not in found["intervals"]
    assert found["records"] == 60
    assert found["baseline"]["name"] == "majority"
    assert found["worst"][0]["note"].startswith("cat, predicted <b>dog</b>")
    assert found["details"][0]["title"] == "Classes"
    page = storage.read(found["report"]).decode()
    assert "tickets@1" in page
    assert "<script" not in page
    assert "<b>dog" not in page
    line = shown(found)
    assert re.match(r"accuracy 0\.\d+ \(0\.\d+ to 0\.\d+\), baseline majority 0\.\d+; ", line)


def test_the_worst_are_the_worst_of_all(project: Any) -> None:
    storage = open_storage(project.cluster.storage, project.name)
    put_version(storage, put_data(storage, "d1"), shift=0.5)
    worst = evaluation.evaluate(project, "tickets")["worst"]
    values = [float(re.findall(r">(.*)<", item["text"])[0]) for item in worst]
    assert len(values) <= 12
    assert values == sorted(values, reverse=True)
    rows = np.random.default_rng(0).normal(size=60)
    wrong = sorted(rows[(rows <= 0) & (rows > -0.5)], reverse=True)[:12]
    assert values == pytest.approx(wrong)


def test_named_files_and_another_versions_data(project: Any, tmp_path: Path) -> None:
    storage = open_storage(project.cluster.storage, project.name)
    put_version(storage, put_data(storage, "d1"))
    put_version(storage, put_data(storage, "d2", size=30), shift=0.5)
    place = tmp_path / "more.txt"
    place.write_text("1\n-1\n2\n")
    found = evaluation.evaluate(project, "tickets@1", str(place))
    assert (found["records"], found["baseline"], found["held_back"]) == (3, None, False)
    found = evaluation.evaluate(project, "tickets@1", like="tickets@2")
    assert (found["records"], found["data"], found["baseline"]) == (30, "d2", None)
    # Scored on other data only: its own held-back figures are still to come.
    version = resolve(storage, "tickets@1")
    assert version.held_back is None
    assert set(version.evaluations) >= {"d2-test"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.places += [value or "" for name, value in attrs if name in ("src", "href")]


def test_report_runs_nothing_and_asks_for_nothing() -> None:
    found = {"model": EVIL, "version": 1, "split": EVIL, "data": EVIL, "records": 3, "time": 0.0}
    found |= {"metrics": {EVIL: 0.5}, "intervals": {EVIL: [0.4, 0.6]}, "device": EVIL}
    found |= {"baseline": {"name": EVIL, EVIL: 0.3}}
    bundle = {"domain": "text", "task": "classification", "metric": EVIL, "spec": {EVIL: EVIL}}
    details = [
        Table(EVIL, [EVIL, "n"], [(EVIL, 1)]),
        Matrix(EVIL, [EVIL, "b"], [[1, 2], [3, 4]]),
        Examples(EVIL, [Shown(EVIL, b"png", b"wav", EVIL)]),
    ]
    lines = [{"step": i, "loss": 1.0 / (i + 1), "validation": {EVIL: 0.1}} for i in range(9)]
    text = render(Report(found, bundle, details, [Shown(EVIL, note=EVIL)], lines))
    text.encode()
    page = _Page()
    page.feed(text)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "form", "a"}
    assert not {name for name in page.names if name.startswith("on")}
    assert all(place.startswith("data:") for place in page.places)
    assert len(page.places) == 2
    assert "http" not in text.replace("http-equiv", "")


def test_a_report_of_little() -> None:
    found = {"model": "m", "version": 1, "split": "test", "data": "d", "records": 1, "time": 0.0}
    found |= {"metrics": {"loss": 0.0}, "intervals": {}, "baseline": None, "device": "cpu"}
    bundle = {"domain": "text", "task": "generation", "spec": {}}
    text = render(Report(found, bundle, [Table("t", ["a", "b"], [])], [], [{"step": 1}]))
    assert "m@1" in text


def test_spec_of_the_fake_is_one() -> None:
    assert parse_model(SPEC).task == "generation"
