"""The bundle is the model: its logits, loaded by plain transformers, against the engine's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM

from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.loop import Worker
from jobs.runs import Run
from tests.bench.result import Result, Say
from tests.process_group import run_group
from tests.trainings import MODEL, STAGES, Case, prepare_data, train_cases, write_spec

CLAIM = "the bundle is the model"
HOW = (
    "logits of the published version in AutoModelForCausalLM.from_pretrained against the engine's "
    "in memory, stages 0 to 3, 1 and 2 workers, fp32 and bf16; largest difference"
)
LIMIT = 1e-6
ROWS = 4


def measure(
    folder: Path,
    say: Say,
    groups: tuple[int, ...] = (1, 2),
    precisions: tuple[str, ...] = ("fp32", "bf16"),
    style: str = "gpt2",
) -> Result:
    """Train a few steps in every combination and compare what was published."""
    cases = [Case(stage, precision) for precision in precisions for stage in STAGES]
    differences: dict[str, float] = {}
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # as in the workers: sums are taken in the same order
    for workers in groups:
        train = {"steps": 4, "global_batch": 8, "workers": workers, "checkpoint": {"every": 2}}
        spec = write_spec(folder / str(workers), train, {"style": style})
        ranks = run_group(train_cases, workers, spec, prepare_data(spec), cases, logits)
        for case, expected in zip(cases, ranks[0], strict=True):
            name = f"{case.precision}, stage {case.stage}, {workers} workers"
            differences[name] = difference(spec, case, expected)
            say(f"{name}: {differences[name]:.1e}")
    worst = max(differences.values())
    return Result(
        f"{worst:.1e} over {len(differences)} bundles",
        f"at most {LIMIT:.0e}",
        worst <= LIMIT,
        {"differences": differences},
    )


@torch.no_grad()
def logits(worker: Worker) -> dict[str, Any]:
    """What the engine answers in memory after training; collective."""
    rows = worker.domain.collate(worker.rows.slice(0, ROWS))
    network = worker.engine.network
    network.eval()
    answer: Tensor = network(input_ids=rows["input_ids"], use_cache=False).logits
    return {"tokens": rows["input_ids"], "logits": answer, "norm": answer.float().norm().item()}


@torch.no_grad()
def difference(spec: Spec, case: Case, expected: dict[str, Any]) -> float:
    """Largest absolute difference of the published version's logits; inf where types differ."""
    storage = open_storage(spec.cluster.storage, spec.name)
    result = Run(storage, case.run).result()
    assert result is not None
    folder = storage.local_path(f"models/{MODEL}/{result['version']}")
    network = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    answer = network(input_ids=expected["tokens"], use_cache=False).logits
    if answer.dtype != expected["logits"].dtype or not expected["norm"]:
        return float("inf")
    return float((answer.float() - expected["logits"].float()).abs().max())
