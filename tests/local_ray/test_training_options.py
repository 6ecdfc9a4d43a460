"""Options that change how a step is computed, not what it learns; all in one process group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.bundles import versions
from jobs.loop import Worker
from tests.process_group import run_group
from tests.trainings import (
    MODEL,
    Case,
    curve,
    largest_difference,
    prepare_data,
    train_cases,
    write_spec,
)

STEPS = 8
PLAIN: dict[str, Any] = {"steps": STEPS, "global_batch": 8, "workers": 2, "precision": "fp32"}
LLAMA = {"style": "llama", "kv_heads": 2}
# Name -> (train, network, stage, precision); each is compared with the plain run of its network.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], int, str]] = {
    "plain": ({}, {}, 2, "fp32"),
    "checkpointing": ({"activation_checkpointing": True}, {}, 2, "fp32"),
    "accumulation": ({"micro_batch": 1}, {}, 2, "fp32"),
    "offload-2": ({"zero": {"stage": 2, "offload": "cpu"}}, {}, 2, "fp32"),
    "offload-3": ({"zero": {"stage": 3, "offload": "cpu"}}, {}, 3, "fp32"),
    "llama": ({}, LLAMA, 3, "bf16"),
}


def work(specs: dict[str, Spec], data: dict[str, str]) -> dict[str, Any]:
    """Train every option; logits of the first validation row where a bundle is compared."""
    seen = {}
    for name, spec in specs.items():
        case = Case(OPTIONS[name][2], OPTIONS[name][3])
        [seen[name]] = train_cases(spec, data[name], [case], first_logits)
    return seen


@torch.no_grad()
def first_logits(worker: Worker) -> list[float]:
    assert worker.validation is not None
    batch = worker.domain.collate(worker.validation.slice(0, 1))
    worker.engine.network.eval()
    logits = worker.engine.network(input_ids=batch["input_ids"], use_cache=False).logits
    return logits.float().flatten().tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Spec], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("options")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(folder / "cache"))
        specs = {
            name: write_spec(folder / name, PLAIN | train, network)
            for name, (train, network, _, _) in OPTIONS.items()
        }
        data = {name: prepare_data(spec) for name, spec in specs.items()}
        return specs, run_group(work, 2, specs, data)[0]


@pytest.mark.parametrize("name", ["checkpointing", "accumulation", "offload-2", "offload-3"])
def test_the_curve_is_that_of_the_plain_run(
    trained: tuple[dict[str, Spec], dict[str, Any]], name: str
) -> None:
    specs, _ = trained
    run = Case(OPTIONS[name][2], "fp32").run
    plain = curve(specs["plain"], Case(2, "fp32").run)
    assert len(plain) == STEPS
    assert largest_difference(curve(specs[name], run), plain) < 1e-4
    norms = curve(specs[name], run, "grad_norm")
    plain_norms = curve(specs["plain"], Case(2, "fp32").run, "grad_norm")
    assert largest_difference(norms, plain_norms) < 1e-3


def test_a_llama_in_bf16_is_exported_as_it_is(
    trained: tuple[dict[str, Spec], dict[str, Any]],
) -> None:
    specs, seen = trained
    spec = specs["llama"]
    storage = open_storage(spec.cluster.storage, spec.name)
    [version] = versions(storage, MODEL)
    folder = storage.local_path(version.path)
    assert isinstance(folder, Path)
    network = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    assert network.dtype == torch.bfloat16
    from jobs.prepared import PreparedData

    rows = PreparedData(storage, version.bundle["data"]).rows("validation")
    assert rows is not None
    tokens = torch.from_numpy(rows.slice(0, 1)["tokens"].astype("int64"))[:, :-1]
    torch.set_num_threads(1)
    with torch.no_grad():
        logits = network(input_ids=tokens, use_cache=False).logits.float().flatten()
    assert (logits - torch.tensor(seen["llama"])).abs().max().item() == 0.0
