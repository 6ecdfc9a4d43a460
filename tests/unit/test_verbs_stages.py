"""What `slipway run` asks a job to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.request import Request
from jobs.verbs import stages


@pytest.mark.parametrize("until", stages.STAGES)
def test_jobs_are_asked_for_stages_that_they_have(
    until: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "book.txt").write_text("It was a dark and stormy night.\n" * 100)
    path = tmp_path / "cluster.yaml"
    path.write_text("models: {a: {domain: text, task: generation, data: book.txt}}")
    asked: list[list[str]] = []

    def work(request: Any, spec: Any, run: Any, arguments: list[str], *_: Any) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr(stages, "work", work)
    assert stages.run(Request(file=path), None, until, again=False) == 0
    [arguments] = asked
    wanted = arguments[arguments.index("--until") + 1]
    assert wanted == ("promote" if until == "serve" else until)
    assert arguments[0] == "jobs.pretrain"


@pytest.mark.parametrize("again", [False, True])
def test_another_search_is_told_to_take_nothing_over(
    again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "book.txt").write_text("It was a dark and stormy night.\n" * 100)
    path = tmp_path / "cluster.yaml"
    tune = "tune: {space: {train.optimizer.lr: {log: [1e-4, 1e-2]}}}"
    path.write_text(f"models: {{a: {{domain: text, task: generation, data: book.txt, {tune}}}}}")
    asked: list[list[str]] = []
    monkeypatch.setattr(stages, "work", lambda *given: asked.append(given[3]) or 0)
    assert stages.run(Request(file=path), None, "evaluate", again) == 0
    assert asked[0][0] == "tune.sweep"
    assert ("--again" in asked[0]) == again


def test_a_gate_that_says_no_keeps_no_other_model_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "book.txt").write_text("It was a dark and stormy night.\n" * 100)
    path = tmp_path / "cluster.yaml"
    model = "{domain: text, task: generation, data: book.txt}"
    path.write_text(f"models: {{a: {model}, b: {model}, c: {model}}}")
    asked: list[str] = []

    def work(request: Any, spec: Any, run: Any, arguments: list[str], *_: Any) -> int:
        asked.append(arguments[2])
        return 3 if arguments[2] == "b" else 0

    monkeypatch.setattr(stages, "work", work)
    assert stages.run(Request(file=path), None, "promote", again=False) == 3
    assert asked == ["a", "b", "c"]
