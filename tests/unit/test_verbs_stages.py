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

    def work(request: Any, spec: Any, run: Any, arguments: list[str], results: Any) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr(stages, "work", work)
    assert stages.run(Request(file=path), None, until, again=False) == 0
    [arguments] = asked
    wanted = arguments[arguments.index("--until") + 1]
    assert wanted == ("promote" if until == "serve" else until)
    assert arguments[0] == "jobs.pretrain"
