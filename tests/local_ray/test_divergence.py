"""A training that diverges stops at its last good checkpoint, or goes back to it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.divergence import DivergedError
from jobs.loop import Worker
from jobs.runs import Run
from jobs.task import Task
from tests.process_group import run_group
from tests.trainings import MODEL, curve, prepare_data, write_spec

SETTINGS = {"steps": 12, "global_batch": 8, "micro_batch": 4, "workers": 2, "precision": "fp32"}
POISONED = {"once": (8,), "stop": (8,), "always": range(7, 99)}
"""Names of runs, and which of their steps, counted as they are computed, give no number."""


def poison(worker: Worker, steps: Any) -> None:
    """Make the loss of these steps NaN, on one worker only."""
    loss, calls = worker.domain.loss, list[int]()

    def poisoned(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return loss(*arguments) * (math.nan if worker.rank and len(calls) in steps else 1.0)

    worker.domain.loss = poisoned  # type: ignore[method-assign]


def diverge(specs: dict[str, Spec], data: str) -> dict[str, str]:
    """How each run ended."""
    ends = {}
    for name, spec in specs.items():
        worker = Worker(Task(spec, MODEL, f"m-train-{name}", data, 2, "fp32"), torch.device("cpu"))
        poison(worker, POISONED[name])
        try:
            ends[name] = str(worker.work()["steps"])
        except DivergedError as error:
            ends[name] = str(error)
        worker.engine.close()
    return ends


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Spec], dict[str, str]]:
    folder = tmp_path_factory.mktemp("diverged")
    specs = {
        name: write_spec(
            folder / name,
            SETTINGS
            | {"on_nan": "stop" if name == "stop" else "rewind", "checkpoint": {"every": 5}},
        )
        for name in POISONED
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(folder / "cache"))
        data = [prepare_data(spec) for spec in specs.values()]
        return specs, run_group(diverge, 2, specs, data[0])[0]


def run_of(specs: dict[str, Spec], name: str) -> Run:
    spec = specs[name]
    return Run(open_storage(spec.cluster.storage, spec.name), f"m-train-{name}")


def test_it_stops_and_names_the_last_good_checkpoint(ended: Any) -> None:
    specs, ends = ended
    assert "the loss is nan at step 8" in ends["stop"]
    assert "the last good checkpoint is of step 5" in ends["stop"]
    assert "train.on_nan: rewind" in ends["stop"]
    assert run_of(specs, "stop").result() is None


def test_it_goes_back_without_the_data_since(ended: Any) -> None:
    specs, ends = ended
    assert ends["once"] == "12"
    first, second = run_of(specs, "once").attempts()
    assert second.info["resumes"] == {"attempt": first.number, "step": 5}
    assert second.info["skips"] == [[5, 3]]
    losses = curve(specs["once"], "m-train-once")
    assert len(losses) == 12
    assert all(map(math.isfinite, losses))


def test_it_goes_back_three_times_at_most(ended: Any) -> None:
    specs, ends = ended
    assert "diverged (the last good checkpoint is of step 5) for the 4th time" in ends["always"]
    assert len(run_of(specs, "always").attempts()) == 4
