"""Which run a leg of a sweep trains: the training's own, unless that is beyond the leg's rung."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.spec.tune import TuneSpec
from jobs.runs import Run
from tests.trainings import MODEL, write_spec
from tune.legs import Place, open_trial
from tune.rungs import Ladder

TUNE = {
    "trials": 2,
    "scheduler": {"type": "pbt", "every": "3 steps", "share": "50%"},
    "space": {"train.optimizer.lr": {"log": [1e-5, 1e-2]}},
}


def save(run: Run, step: int) -> None:
    number = run.next_attempt({"resumes": None})
    path = f"{run.path}/{number}/checkpoints/step-{step:06d}"
    manifest = {"step": step, "files": {}, "metric": 0.5, "progress": [0.5, 0]}
    run.storage.write_json(f"{path}/manifest.json", manifest)


def test_a_run_beyond_a_rung_is_left_to_whom_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "rows.txt").write_text("\n".join(f"line {n} of a file" for n in range(300)))
    data = {"source": "rows.txt", "tokenizer": {"type": "character"}}
    spec = write_spec(tmp_path, {"steps": 9, "global_batch": 8}, data=data)
    ladder = Ladder(TuneSpec.model_validate(TUNE), spec.model(MODEL).train, 300)
    values: dict[str, Any] = {"train.optimizer.lr": 1e-3}

    def opened(rung: int, trial: int = 0, sweep: str = "m-tune-1") -> Run:
        return open_trial(spec, MODEL, values, None, Place(sweep, trial, ladder, rung))[1]

    shared = open_trial(spec, MODEL, values)[1]
    assert opened(0).id == shared.id
    save(shared, 6)
    own = opened(0)
    assert own.id not in (shared.id, opened(0, trial=1).id, opened(0, sweep="m-tune-2").id)
    assert opened(0).id == own.id
    assert opened(1).id == shared.id == opened(2).id
