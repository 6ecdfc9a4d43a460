"""What is particular to tasks where ZeRO shards their networks; no Ray, one group of two a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import bundle


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("sample", ["text", "synthesis"])
def test_a_bundle_is_what_stage_3_trained(sample: str, tmp_path: Path) -> None:
    """Linear layers that DeepSpeed replaces; sentences whose lengths differ between workers."""
    result = bundle.measure(tmp_path, print, (2,), ("bf16",), sample=sample, stages=(3,))
    assert result.details["differences"] == {"bf16, stage 3, 2 workers": 0.0}
