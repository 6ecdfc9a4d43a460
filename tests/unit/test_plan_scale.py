"""Plans on paper: large models on many GPUs, quickly, and by the ZeRO paper's own figures."""

import time
from pathlib import Path

import pytest

from cluster.memory import model_states
from tests.bench.scale import GPUS, PAPER_GB, plans


@pytest.mark.parametrize(("stage", "gigabytes"), PAPER_GB.items())
def test_the_papers_own_case(stage: int, gigabytes: float) -> None:
    """Figure 1 of arXiv 1910.02054: 7.5B parameters on 64 devices."""
    states = sum(model_states(7.5e9, stage, 64, "bf16")) / 1e9
    assert states == pytest.approx(gigabytes, abs=0.05)


def test_large_models_are_planned_on_8_to_4096_gpus(tmp_path: Path) -> None:
    began = time.process_time()
    rows = plans(tmp_path)
    assert time.process_time() - began < 2
    assert GPUS[-1] == 4096
    sizes = {row["model"]: row["parameters"] for row in rows}
    for (name, size), wanted in zip(sizes.items(), (7e9, 70e9, 400e9), strict=True):
        assert size == pytest.approx(wanted, rel=0.05), name
        own = [row for row in rows if row["model"] == name]
        assert [row["gpus"] for row in own] == list(GPUS)
        need = [row["bytes"] for row in own]
        assert need == sorted(need, reverse=True)
        assert own[-1]["fits"]
    largest = [row for row in rows if row["model"] == "llama-400b"]
    assert not largest[0]["fits"]
    assert largest[-1]["stage"] == 3
    # twice the GPUs, half the time, the same price but for the head's
    assert largest[-1]["hours"] == pytest.approx(largest[-2]["hours"] / 2)
    assert largest[-1]["total"] == pytest.approx(largest[-2]["total"], rel=1e-3)
