"""Rows for predicting ratings.

`user`, `item` and `rating`, where 0 is one that training has not seen; `recent` and
`recent_ratings`: what the user rated before, the newest first. For events that are kept back
these are the user's newest training events, so that no kept-back rating helps with another.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.domains.recommendation.history import SPLITS, TRAIN
from jobs.domains.recommendation.layouts import SUFFIXES as SUFFIXES
from jobs.domains.recommendation.preparation import EventPreparation, list_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec import ModelSpec
    from cluster.storage import Storage


class RatingPreparation(EventPreparation):
    """See `EventPreparation`."""

    needs_rating = True
    keeps_last = True
    default_last = None

    @property
    def num_recent(self) -> int:
        return int(self.network.recent)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"recent": self.num_recent}

    def rows(self, begin: int, end: int) -> dict[str, pa.RecordBatch]:
        history, sides = self.history, self.sides[begin:end]
        users = self.user_numbers[history.user[begin:end]]
        items = self.item_numbers[history.item[begin:end]]
        items = np.where(items <= self.num_trained, items, 0).astype(np.int32)
        ratings = history.rating[begin:end].astype(np.float32)
        first, many = self._before(begin, end)
        schema = pa.schema(
            [
                pa.field("user", pa.int32(), nullable=False),
                pa.field("item", pa.int32(), nullable=False),
                pa.field("rating", pa.float32(), nullable=False),
                pa.field("recent", list_type(), nullable=False),
                pa.field("recent_ratings", list_type(pa.float32()), nullable=False),
            ]
        )
        made = {}
        for side, name in enumerate(SPLITS):
            own = sides == side
            columns = [
                pa.array(np.where(users <= self.num_trained_users, users, 0)[own]),
                pa.array(items[own]),
                pa.array(ratings[own]),
                _newest_first(items, first[own], many[own]).cast(list_type()),
                _newest_first(ratings, first[own], many[own]).cast(list_type(pa.float32())),
            ]
            made[name] = pa.record_batch(columns, schema=schema)
        return made

    def about(self) -> dict[str, Any]:
        ratings = self.history.rating[self.sides == TRAIN]
        return {
            **super().about(),
            "scale": [float(ratings.min()), float(ratings.max())],
            "mean": float(ratings.mean()),
            "ratings": len(ratings),
        }

    def _before(self, begin: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the newest event that each may know is, and how many up to there, [events]."""
        ranks, users = self.history.ranks[begin:end], self.history.user[begin:end]
        known = ranks
        if self.data.split.by is None:  # else all that a kept-back user has is their history
            trained = np.bincount(self.history.user[self.sides == TRAIN], minlength=users.max() + 1)
            known = np.minimum(ranks, trained[users])  # a user's training events come first
        first = np.arange(end - begin) - ranks + known - 1
        return first, np.minimum(known, self.num_recent)


def _newest_first(
    values: NDArray[Any], first: NDArray[np.int64], many: NDArray[np.int64]
) -> pa.ListArray:
    """For each place in `first` that value and those before it, `many` in all."""
    offsets = np.concatenate([[0], np.cumsum(many)])
    back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], many)
    taken = values[np.repeat(first, many) - back]
    return pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(taken))


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> RatingPreparation:
    return RatingPreparation(model, pretrained, store)
