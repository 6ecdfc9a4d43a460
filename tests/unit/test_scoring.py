"""Scores cover every row once."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from jobs.scoring import score_rows


class Numbers:
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": indices}


class Sums:
    def collate(self, rows: dict[str, np.ndarray], seed: int | None) -> dict[str, torch.Tensor]:
        assert seed is None
        return {"x": torch.from_numpy(rows["x"])}

    def score(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        assert not network.training
        assert not torch.is_grad_enabled()
        return {"sum": float(batch["x"].sum()), "rows": len(batch["x"])}

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        return sums


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 8, 9])
def test_every_row_counts_once(size: int, world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[dict[str, float]] = []

    def alone(sums: dict[str, float], _: int) -> dict[str, float]:
        return sums

    monkeypatch.setattr("jobs.scoring._over_workers", alone)
    network: Any = nn.Identity()
    for rank in range(world_size):
        domain: Any = Sums()
        rows: Any = Numbers(size)
        device = torch.device("cpu")
        parts.append(score_rows(domain, network, rows, 2, device, rank, world_size))
    assert network.training
    assert sum(part["rows"] for part in parts) == size
    assert sum(part["sum"] for part in parts) == sum(range(size))
