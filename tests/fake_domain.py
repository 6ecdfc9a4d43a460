"""A domain of two classes without a network worth the name: fast enough for unit tests."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cluster.storage import Storage, publish_folder, sha256_file
from jobs.bundles import Version, claim_version, publish_version, resolve
from jobs.domains.classes import details_of, metrics_of, notes_of, outcomes_of, worst_of
from jobs.domains.details import Shown
from jobs.runs import Run

LABELS = ["cat", "<b>dog</b>"]
SPEC = {"domain": "text", "task": "generation", "data": {"source": ["builtin:python-docs"]}}


class FakeDomain:
    """Predicts class 1 where `value` plus the bundle's shift is above 0."""

    unit = "records"
    labels = LABELS
    batched_by = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def restore(self, folder: Path) -> torch.nn.Module:
        layer = torch.nn.Linear(1, 2)
        shift = float((folder / "shift").read_text())
        layer.weight.data = torch.tensor([[0.0], [1.0]])
        layer.bias.data = torch.tensor([0.0, shift])
        return layer

    def collate(self, rows: Any, seed: int | None = None) -> dict[str, torch.Tensor]:
        values = torch.from_numpy(rows["value"]).float()[:, None]
        return {"values": values, "labels": torch.from_numpy(rows["label"])}

    def outcomes(self, network: torch.nn.Module, batch: Any) -> Any:
        logits = network(batch["values"])
        return outcomes_of(logits.numpy(), batch["labels"].numpy())

    def metrics(self, outcomes: Any) -> dict[str, float]:
        return metrics_of(outcomes, 2)

    def details(self, outcomes: Any) -> Any:
        return details_of(outcomes, LABELS)

    def worst(self, outcomes: Any, count: int) -> Any:
        return worst_of(outcomes, count)

    def show(self, rows: Any, outcomes: Any) -> list[Shown]:
        notes = notes_of(outcomes, LABELS)
        return [Shown(f"<script>{v}</script>", note=n) for v, n in zip(rows["value"], notes)]  # noqa: B905

    def baseline(self, train: Any, held_back: Any) -> dict[str, Any]:
        labels = np.concatenate([rows["label"] for rows in held_back])
        return {"name": "majority", "accuracy": float(max(labels.mean(), 1 - labels.mean()))}

    def count(self, batch: Any) -> int:
        return len(batch["labels"])

    def read(self, paths: Any, rows_per_batch: int) -> Iterator[Any]:
        values = np.loadtxt(paths[0], ndmin=1)
        yield {"value": values, "label": (values > 0).astype(np.int64)}


def put_data(storage: Storage, digest: str, size: int = 60, **manifest: Any) -> str:
    """Prepared data with a training and a test split, as `jobs.prepare` leaves it."""
    values = np.random.default_rng(0).normal(size=size)
    table = pa.table({"value": values, "label": (values > 0).astype(np.int64)})
    with tempfile.TemporaryDirectory() as name:
        for split in ("train", "test"):
            (Path(name) / split).mkdir()
            pq.write_table(table, Path(name) / split / "00000.parquet")
        (Path(name) / "processor").mkdir()
        (Path(name) / "processor" / "labels.json").write_text('["cat", "dog"]')
        splits = {"train": {"rows": size}, "test": {"rows": size}}
        content = {"digest": digest, "splits": splits, "columns": {"value": "double"}}
        content |= {"sources": [], "domain": "text", "task": "generation"}
        publish_folder(storage, Path(name), f"data/{digest}", "manifest.json", content | manifest)
    return digest


def put_version(
    storage: Storage, data: str, model: str = "tickets", shift: float = 0.0, **bundle: Any
) -> Version:
    """A trained version: a finished run, a bundle of one small file."""
    run = Run.open(storage, model, "train", f"{time.time_ns():064x}"[::-1])
    attempt = run.next_attempt({"resumes": None})
    number = claim_version(storage, model, run.id)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "shift").write_text(str(shift))
        content = {"format": 1, "run": run.id, "data": data, "spec": SPEC, "metric": "accuracy"}
        content |= {"domain": "text", "task": "generation", "labels": LABELS, "step": 3}
        content |= {"code": {"version": "1", "digest": "c0de"}, "precision": "fp32"}
        publish_version(storage, model, number, Path(name), content | bundle)
    run.finish({"version": number, "metrics": {"accuracy": 0.9}}, attempt)
    return resolve(storage, f"{model}@{number}")


def source_of(path: Path, part: str = "") -> dict[str, Any]:
    """A source file as a manifest describes it."""
    size = path.stat().st_size
    return {"path": str(path), "part": part, "size": size, "sha256": sha256_file(path)}
