"""How a job's program ends: its exit code, and what a RayJob's leaves in the storage instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.spec import load
from cluster.storage import StorageError, open_storage
from jobs import program
from jobs.judging import GateError
from jobs.program import parse, perform
from jobs.runs import Run
from jobs.spending import OverBudgetError
from jobs.submissions import End, last_end, record

ENDS = [
    (None, End(0)),
    (ValueError("no rows"), End(1, "no rows")),
    (OverBudgetError("spent"), End(2, "spent")),
    (GateError("m@1 does not become production"), End(3, "m@1 does not become production")),
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose job is this process."""
    (tmp_path / "cluster.yaml").write_text(
        "cluster: {storage: ./store}\n"
        "models: {m: {domain: text, task: generation, data: builtin:python-docs}}\n"
    )
    config = {"metadata": {"job_submission_id": "m-train-abab-1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(config))
    spec = load(tmp_path / "cluster.yaml")
    found = Run.open(open_storage(spec.cluster.storage, spec.name), "m", "train", "ab" * 32)
    record(found, "m-train-abab-1", "RayJob/m-train-abab")
    return found


def ended(folder: Path, run: Run, error: Exception | None, *more: str) -> int:
    def work(*_: Any) -> None:
        if error is not None:
            raise error

    arguments = [str(folder / "cluster.yaml"), "m", "--run", run.id, *more]
    return perform(parse("jobs.pretrain", None, ("train",), arguments), lambda spec: None, work)


@pytest.mark.parametrize(("error", "end"), ENDS)
def test_an_end_is_the_exit_code(
    tmp_path: Path, run: Run, error: Exception | None, end: End
) -> None:
    assert ended(tmp_path, run, error) == end.exit_code
    assert last_end(run) is None


@pytest.mark.parametrize(("error", "end"), ENDS)
def test_a_rayjob_is_not_tried_again_for_an_end_that_is_recorded(
    tmp_path: Path, run: Run, error: Exception | None, end: End
) -> None:
    assert ended(tmp_path, run, error, "--apart") == 0
    assert last_end(run) == end


def test_a_rayjob_is_tried_again_for_what_nobody_foresaw(tmp_path: Path, run: Run) -> None:
    with pytest.raises(RuntimeError):
        ended(tmp_path, run, RuntimeError("the head is gone"), "--apart")
    assert last_end(run) is None


def test_an_end_that_cannot_be_recorded_is_the_exit_code(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise StorageError("the bucket is away")

    monkeypatch.setattr(program, "record_end", refuse)
    assert ended(tmp_path, run, GateError("no"), "--apart") == 3
    assert "how the run ended was not kept: the bucket is away" in capsys.readouterr().err


def test_a_rayjob_is_not_tried_again_for_a_spec_that_is_wrong(tmp_path: Path, run: Run) -> None:
    (tmp_path / "cluster.yaml").write_text("models: {m: {domain: txt}}\n")
    assert ended(tmp_path, run, None) == 2
    assert ended(tmp_path, run, None, "--apart") == 0
