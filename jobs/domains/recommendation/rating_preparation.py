"""Rows for predicting ratings: `user`, `item` and `rating`; 0 is one that training has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.domains.recommendation.history import SPLITS, TRAIN
from jobs.domains.recommendation.layouts import SUFFIXES as SUFFIXES
from jobs.domains.recommendation.preparation import EventPreparation

if TYPE_CHECKING:
    from cluster.spec import ModelSpec
    from cluster.storage import Storage


class RatingPreparation(EventPreparation):
    """See `EventPreparation`."""

    needs_rating = True
    keeps_last = True
    default_last = None

    def rows(self, begin: int, end: int) -> dict[str, pa.RecordBatch]:
        history, sides = self.history, self.sides[begin:end]
        users = self.user_numbers[history.user[begin:end]]
        items = self.item_numbers[history.item[begin:end]]
        columns = {
            "user": np.where(users <= self.num_trained_users, users, 0).astype(np.int32),
            "item": np.where(items <= self.num_trained, items, 0).astype(np.int32),
            "rating": history.rating[begin:end].astype(np.float32),
        }
        return {
            name: pa.record_batch(
                {key: pa.array(values[sides == side]) for key, values in columns.items()}
            )
            for side, name in enumerate(SPLITS)
        }

    def about(self) -> dict[str, Any]:
        ratings = self.history.rating[self.sides == TRAIN]
        scale = [float(ratings.min()), float(ratings.max())]
        return {**super().about(), "scale": scale, "mean": float(ratings.mean())}


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> RatingPreparation:
    return RatingPreparation(model, pretrained, store)
