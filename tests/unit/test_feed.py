"""The batches of a step do not depend on who asks, or from where a run goes on."""

from typing import Any

import numpy as np
import torch

from jobs.engine import Layout
from jobs.feed import Feed
from jobs.order import rows_of_step


class Numbers:
    """Rows that are their own indices."""

    def __len__(self) -> int:
        return 50

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": indices}


class Plain:
    def collate(self, rows: dict[str, np.ndarray], seed: int | None) -> dict[str, torch.Tensor]:
        assert seed is not None
        return {"x": torch.from_numpy(rows["x"]), "seed": torch.tensor(seed)}


def batches(world_size: int, rank: int, start: int = 0, steps: int = 3) -> list[Any]:
    layout = Layout(12, 3, world_size)
    with Feed(Numbers(), Plain(), layout, rank, 7, start) as feed:
        return [feed.next(torch.device("cpu")) for _ in range(steps)]


def test_workers_share_each_step_in_the_order_of_the_seed() -> None:
    ranks = [batches(2, rank) for rank in (0, 1)]
    for step in range(3):
        rows = [b["x"] for rank in ranks for b in rank[step]]
        assert [len(part) for part in rows] == [3] * 4
        assert torch.cat(rows).tolist() == rows_of_step(7, step, 12, 50).tolist()


def test_a_resumed_feed_goes_on_where_the_first_left() -> None:
    assert str(batches(2, 1, start=2, steps=1)) == str(batches(2, 1)[2:])


def test_augmentation_follows_the_sample_not_the_worker() -> None:
    alone = [int(b["seed"]) for b in batches(1, 0)[1]]
    shared = [int(b["seed"]) for rank in (0, 1) for b in batches(2, rank)[1]]
    assert alone == shared
    assert len(set(alone)) == 4
