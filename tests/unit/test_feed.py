"""The batches of a step do not depend on who asks, or from where a run goes on."""

from typing import Any

import numpy as np
import torch

from jobs.divergence import Skip
from jobs.engine import Layout
from jobs.feed import Feed
from jobs.order import rows_of_step


class Numbers:
    """Rows that are their own indices."""

    def __len__(self) -> int:
        return 50

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": indices}

    def lengths(self, name: str, indices: np.ndarray) -> np.ndarray:
        assert name == "x"
        return indices * 7 % 50


class Plain:
    batched_by: str | None = None

    def collate(self, rows: dict[str, np.ndarray], seed: int | None) -> dict[str, torch.Tensor]:
        assert seed is not None
        return {"x": torch.from_numpy(rows["x"]), "seed": torch.tensor(seed)}


class Ordered(Plain):
    batched_by = "x"


def batches(
    world_size: int, rank: int, start: int = 0, steps: int = 3, domain: Any = None
) -> list[Any]:
    layout = Layout(12, 3, world_size)
    with Feed(Numbers(), domain or Plain(), layout, rank, 7, start) as feed:
        return [feed.next(torch.device("cpu")) for _ in range(steps)]


def test_workers_share_each_step_in_the_order_of_the_seed() -> None:
    ranks = [batches(2, rank) for rank in (0, 1)]
    for step in range(3):
        rows = [b["x"] for rank in ranks for b in rank[step]]
        assert [len(part) for part in rows] == [3] * 4
        assert torch.cat(rows).tolist() == rows_of_step(7, step, 12, 50).tolist()


def test_a_resumed_feed_goes_on_where_the_first_left() -> None:
    assert str(batches(2, 1, start=2, steps=1)) == str(batches(2, 1)[2:])


def test_a_run_that_went_back_leaves_out_what_it_had_taken() -> None:
    layout = Layout(12, 12, 1)
    with Feed(Numbers(), Plain(), layout, 0, 7, 1, [Skip(1, 2)]) as feed:
        [batch] = feed.next(torch.device("cpu"))
    assert batch["x"].tolist() == rows_of_step(7, 3, 12, 50).tolist()


def test_augmentation_follows_the_sample_not_the_worker() -> None:
    alone = [int(b["seed"]) for b in batches(1, 0)[1]]
    shared = [int(b["seed"]) for rank in (0, 1) for b in batches(2, rank)[1]]
    assert alone == shared
    assert len(set(alone)) == 4


def test_rows_in_order_by_length_are_dealt_to_the_workers() -> None:
    alone = batches(1, 0, domain=Ordered())
    ranks = [batches(2, rank, domain=Ordered()) for rank in (0, 1)]
    for step in range(3):
        dealt = [
            part for pair in zip(*(rank[step] for rank in ranks), strict=True) for part in pair
        ]
        assert str(dealt) == str(alone[step])
        lengths = [n * 7 % 50 for part in alone[step] for n in part["x"].tolist()]
        assert lengths == sorted(lengths)
    later = batches(2, 1, start=2, steps=1, domain=Ordered())
    assert str(later) == str(ranks[1][2:])
