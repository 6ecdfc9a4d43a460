"""Small trainings by the real loop: spec, data, and cases that share a process group."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.loop import Worker
from jobs.prepare import prepare
from jobs.runs import Run, joined_metrics
from jobs.task import Task
from tests.bench.samples import RATINGS, SAMPLES, write_ratings

MODEL = "m"
STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Case:
    """One training among several of a process group."""

    stage: int
    precision: str = "fp32"
    mark: str = ""
    """What tells it from others of the same stage and precision."""

    @property
    def run(self) -> str:
        """Id of its run."""
        return f"{MODEL}-train-{self.precision}-{self.stage}{self.mark}"


def write_spec(
    folder: Path,
    train: dict[str, Any],
    network: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    name: str = "bench",
    sample: str = "language",
) -> Spec:
    """Write cluster.yaml into ``folder``, with its storage beside it, and load it.

    By default a small GPT on the documentation of the Python that runs; ``sample`` names others.
    """
    model = dict(SAMPLES[sample]) | {"train": train}
    model["network"] = model["network"] | (network or {})
    model["data"] = model["data"] | (data or {})
    cluster = {"storage": "./store", "pools": [{"name": "cpu", "cpus": 2}]}
    document = {"name": name, "cluster": cluster, "models": {MODEL: model}}
    folder.mkdir(parents=True, exist_ok=True)
    if model["data"]["source"] == RATINGS:
        write_ratings(folder)
    (folder / "cluster.yaml").write_text(json.dumps(document, indent=1))
    return load(folder / "cluster.yaml")


def prepare_data(spec: Spec) -> str:
    """Prepare the model's data in this process; its digest."""
    storage = open_storage(spec.cluster.storage, spec.name)
    return prepare(spec.model(MODEL), storage, lambda line: None).digest


def train_cases(
    spec: Spec, data: str, cases: Sequence[Case], look: Callable[[Worker], Any] | None = None
) -> list[Any]:
    """Train each case to its end in this process's group; ``look(worker)`` of each, then closed."""
    seen = []
    for case in cases:
        task = Task(spec, MODEL, case.run, data, case.stage, case.precision)
        worker = Worker(task, torch.device("cpu"))
        worker.work()
        seen.append(look(worker) if look else None)
        worker.engine.close()
    return seen


def curve(spec: Spec, run: str, key: str = "loss") -> list[float]:
    """One number of each step of a run, in the order of steps."""
    found = Run(open_storage(spec.cluster.storage, spec.name), run)
    return [line[key] for line in joined_metrics(found) if key in line]


def largest_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """Largest absolute difference of two curves of equal length."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def shared_folder() -> Path | None:
    """The folder of real data sets: $SLIPWAY_SHARED, ../shared by default; None where absent."""
    folder = Path(os.environ.get("SLIPWAY_SHARED") or Path(__file__).parents[2] / "shared")
    return folder / "data" if (folder / "data").is_dir() else None
