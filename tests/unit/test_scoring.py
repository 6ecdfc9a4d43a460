"""Scores cover every row once."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from jobs.domains import Outcomes
from jobs.scoring import score_rows


class Numbers:
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": indices}


class Values:
    def collate(self, rows: dict[str, np.ndarray], seed: int | None) -> dict[str, torch.Tensor]:
        assert seed is None
        return {"x": torch.from_numpy(rows["x"])}

    def outcomes(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> Outcomes:
        assert not network.training
        assert not torch.is_grad_enabled()
        return {"x": batch["x"].numpy()}

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        seen.append(outcomes["x"])
        return {}


seen: list[np.ndarray] = []


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 8, 9])
def test_every_row_counts_once(size: int, world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    empty = {"x": np.zeros(0, np.int64)}
    monkeypatch.setattr("jobs.scoring._over_workers", lambda found, _: [*found, empty])
    network: Any = nn.Identity()
    for rank in range(world_size):
        domain: Any = Values()
        rows: Any = Numbers(size)
        score_rows(domain, network, rows, 2, torch.device("cpu"), rank, world_size)
    assert network.training
    assert sorted(np.concatenate(seen)) == list(range(size))
