"""A checkpoint is tied to no number of workers, ZeRO stage or precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.spec import Spec
from jobs.loop import Worker
from jobs.task import Task
from tests.bench import corrupt
from tests.bench.reshard import measure
from tests.process_group import run_group
from tests.trainings import MODEL, curve, largest_difference, prepare_data, write_spec


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))


def test_other_workers_and_stages_carry_a_run_on(tmp_path: Path) -> None:
    result = measure(tmp_path, print, first=3, second=6, steps=10)
    assert result.holds, result.figure


def test_damaged_files_are_named_and_never_used(tmp_path: Path) -> None:
    result = corrupt.measure(tmp_path, print)
    assert result.holds, result.details


def masters(worker: Worker) -> dict[str, torch.Tensor]:
    """The weights in fp32 and the first moments, of a single worker."""
    from jobs.fragments import fragments_of

    return {
        f"{key}/{fragment.name}": fragment.read(key).clone()
        for fragment in fragments_of(worker.engine.engine)
        for key in fragment.keys
    }


def precisions(spec: Spec, data: str) -> list[Any]:
    """Pause one run in fp32, take it on in bf16 and again in fp32; the state at each turn."""
    seen = []
    for stage, precision, until in ((2, "fp32", 4), (0, "bf16", 4), (3, "fp32", 4), (2, "fp32", 8)):
        task = Task(spec, MODEL, f"{MODEL}-train-mixed", data, stage, precision, until)
        worker = Worker(task, torch.device("cpu"))
        worker.work()
        seen.append(masters(worker))
        if until == 4:
            worker.engine.share_buffers()
            state = {"metric": None, "progress": [None, 0], "first_losses": worker.losses.first}
            worker.checkpoints.save(worker.engine, 4, state, last=True)
        worker.engine.close()
    whole = Worker(Task(spec, MODEL, "m-train-whole", data, 2, "fp32", 8), torch.device("cpu"))
    whole.work()
    return seen


def test_another_precision_keeps_the_weights_in_fp32(tmp_path: Path) -> None:
    settings = {"steps": 8, "global_batch": 4, "checkpoint": {"every": 100}}
    spec = write_spec(tmp_path, settings)
    [(first, low, back, _)] = run_group(precisions, 1, spec, prepare_data(spec))
    assert first.keys() == low.keys() == back.keys()
    assert any(name.startswith("exp_avg_sq/") for name in first)
    for name, tensor in first.items():
        assert torch.equal(low[name], tensor), name
        assert torch.equal(back[name], tensor), name
    whole = curve(spec, "m-train-whole")
    assert largest_difference(curve(spec, "m-train-mixed"), whole) <= 1e-6
