"""The bundle is the model: its logits, loaded by plain transformers, against the engine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.domains import open_domain
from jobs.engine import DTYPES
from jobs.loop import Worker
from jobs.prepared import PreparedData
from jobs.runs import Run
from tests.bench.result import Result, Say
from tests.process_group import run_group
from tests.trainings import MODEL, STAGES, Case, prepare_data, train_cases, write_spec

CLAIM = "the bundle is the model"
HOW = (
    "what the published version, restored from its files, makes of each record (nats, and logits "
    "in AutoModelForCausalLM for a language model) against the engine's network in memory, "
    "stages 0 to 3, 1 and 2 workers, fp32 and bf16; largest difference"
)
LIMIT = 1e-6
ROWS = 4


def measure(
    folder: Path,
    say: Say,
    groups: tuple[int, ...] = (1, 2),
    precisions: tuple[str, ...] = ("fp32", "bf16"),
    network: dict[str, Any] | None = None,
    sample: str = "language",
    stages: tuple[int, ...] = STAGES,
) -> Result:
    """Train a few steps in every combination and compare what was published."""
    cases = [Case(stage, precision) for precision in precisions for stage in stages]
    differences: dict[str, float] = {}
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # as in the workers: sums are taken in the same order
    for workers in groups:
        train = {"steps": 4, "global_batch": 8, "workers": workers, "checkpoint": {"every": 2}}
        spec = write_spec(folder / str(workers), train, network, sample=sample)
        data = prepare_data(spec)
        ranks = run_group(train_cases, workers, spec, data, cases, outcomes)
        for case, expected in zip(cases, ranks[0], strict=True):
            name = f"{case.precision}, stage {case.stage}, {workers} workers"
            differences[name] = difference(spec, data, case, expected)
            say(f"{name}: {differences[name]:.1e}")
    worst = max(differences.values())
    return Result(
        f"{worst:.1e} over {len(differences)} bundles",
        f"at most {LIMIT:.0e}",
        worst <= LIMIT,
        {"differences": differences},
    )


@torch.no_grad()
def outcomes(worker: Worker) -> dict[str, Any]:
    """What the engine makes of some records in memory after training; collective."""
    batch = worker.domain.collate(worker.rows.slice(0, ROWS))
    network = worker.engine.network
    network.eval()
    found: dict[str, Any] = dict(worker.domain.outcomes(network, batch))
    if worker.model.task == "generation":
        found["logits"] = network(input_ids=batch["input_ids"], use_cache=False).logits.float()
    return found


@torch.no_grad()
def difference(spec: Spec, data: str, case: Case, expected: dict[str, Any]) -> float:
    """Largest absolute difference of the published version; inf where precisions differ."""
    storage = open_storage(spec.cluster.storage, spec.name)
    result = Run(storage, case.run).result()
    assert result is not None
    folder = storage.local_path(f"models/{MODEL}/{result['version']}")
    assert folder is not None
    domain = open_domain(spec.model(MODEL), folder)
    network = domain.restore(folder).eval()
    rows = PreparedData(storage, data).rows("train")
    assert rows is not None
    batch = domain.collate(rows.slice(0, ROWS))
    found: dict[str, Any] = dict(domain.outcomes(network, batch))
    if "logits" in expected:
        plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        found["logits"] = plain(input_ids=batch["input_ids"], use_cache=False).logits.float()
    is_scored = any(np.asarray(values).any() for values in expected.values())
    if next(network.parameters()).dtype != DTYPES[case.precision] or not is_scored:
        return float("inf")
    return max(_largest(found[name], values) for name, values in expected.items())


def _largest(found: Any, expected: Any) -> float:
    one, other = np.asarray(found), np.asarray(expected)
    if one.dtype.kind == "U":  # what was said, by whom
        return 0.0 if np.array_equal(one, other) else float("inf")
    apart = np.abs(one.astype(np.float64) - other)
    apart[np.isnan(one.astype(np.float64)) & np.isnan(other.astype(np.float64))] = 0.0
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
