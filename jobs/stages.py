"""What makes a stage done: the digest of its part of the spec, its inputs and its seed.

How a run is spread (``workers``, ``zero``, ``checkpoint`` and their like) and which code it ran
with are recorded, but are no reason to train again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.spec import ModelSpec, Pretrained
from cluster.spec.train import PLACEMENT
from cluster.storage import Storage, sha256_file
from jobs.domains import open_preparation
from jobs.inspections import inspect_all
from jobs.prepare import Report, data_digest
from jobs.runs import stage_digest
from jobs.starts import start_folder


def train_digest(model: ModelSpec, data: str) -> str:
    """Digest of a training run over prepared data ``data``."""
    parts: dict[str, Any] = {
        "stage": "train",
        "domain": model.domain,
        "task": model.task,
        "network": model.network.model_dump(mode="json") | _start(model),
        "metric": model.metric,
        "train": model.train.model_dump(mode="json", exclude=set(PLACEMENT)),
        "data": data,
    }
    return stage_digest(parts)


def sweep_digest(model: ModelSpec, data: str) -> str:
    """Digest of a search: its own section and everything that its trials share.

    How many trials run at once, and when to give up, are no reason to search again.
    """
    assert model.tune is not None
    tune = model.tune.model_dump(mode="json", exclude={"parallel", "time", "cost", "failures"})
    return stage_digest({"stage": "tune", "tune": tune, "train": train_digest(model, data)})


def _start(model: ModelSpec) -> dict[str, str]:
    """Digest of the files in a local folder that the network starts from; a version is pinned."""
    folder = Path(model.network.pretrained) if isinstance(model.network, Pretrained) else None
    if folder is None or not folder.is_dir():
        return {}
    files = [*sorted(folder.glob("*.safetensors")), folder / "config.json"]
    return {"files": stage_digest({f.name: sha256_file(f) for f in files if f.is_file()})}


def find_data_digest(model: ModelSpec, report: Report, storage: Storage | None = None) -> str:
    """Digest that a model's data has or will have: reads sources that changed since last time.

    Sources in the bucket of ``storage`` are reached with its endpoint and credentials.
    """
    start = start_folder(model, storage) if storage is not None else None
    preparation = open_preparation(model, start, storage)
    sources = preparation.sources()
    inspections = inspect_all(preparation, sources, report)
    preparation.plan(inspections)  # raises DataError where too many records are bad
    return data_digest(model, preparation, sources, inspections)


def prepare_digest(data: str) -> str:
    """Digest of a preparation, whose output is named by its input."""
    return stage_digest({"stage": "prepare", "data": data})
