"""Rows for predicting the next item.

`user` and `items`: what they took, the oldest first. In training rows `target` is 0: each item
but the first is predicted from those before it, and long histories are cut into windows that
overlap by one item. In the others `target` is the item that came next, and `items` all before it.
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

    Row = tuple[int, NDArray[np.int32], int]
    """User, items, target."""


class NextItemPreparation(EventPreparation):
    """See `EventPreparation`."""

    needs_rating = False
    keeps_last = False
    default_last = 1

    @property
    def context(self) -> int:
        return int(self.network.context)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"context": self.context}

    def rows(self, begin: int, end: int) -> dict[str, pa.RecordBatch]:
        """Windows of the training events; a row for each held-back one that has a history."""
        history = self.history
        users, sides = history.user[begin:end], self.sides[begin:end]
        items = self.item_numbers[history.item[begin:end]]
        borders = np.flatnonzero(np.diff(users)) + 1
        made: dict[str, list[Row]] = {name: [] for name in SPLITS}
        numbers = self.user_numbers[users[np.append(0, borders)]].tolist() if len(users) else []
        parts = zip(numbers, np.split(items, borders), np.split(sides, borders), strict=True)
        for user, own, own_sides in parts:
            trained = own[own_sides == TRAIN]
            made["train"] += [(user, w, 0) for w in windows(trained, self.context)]
            for place in np.flatnonzero(own_sides).tolist():
                if place and self._is_scored(own_sides, place):
                    made[SPLITS[own_sides[place]]].append((user, own[:place], int(own[place])))
        return {name: _batch(rows) for name, rows in made.items()}

    def _is_scored(self, sides: NDArray[np.int8], place: int) -> bool:
        """Of a user who is held back whole, only the last events have their turn."""
        if self.data.split.by is None:
            return True
        return place >= len(sides) - (self.last or 1)


def windows(items: NDArray[np.int32], context: int) -> list[NDArray[np.int32]]:
    """At most context + 1 items each, from the end, each item but the first predicted once."""
    ends = range(len(items), 1, -context)
    return [items[max(0, end - context - 1) : end] for end in ends]


def _batch(rows: list[Row]) -> pa.RecordBatch:
    lists = [items for _, items, _ in rows]
    sizes = np.cumsum([0] + [len(items) for items in lists]).astype(np.int32)
    values = np.concatenate([*lists, np.zeros(0, np.int32)]).astype(np.int32)
    users = np.asarray([user for user, _, _ in rows], np.int32)
    targets = np.asarray([target for _, _, target in rows], np.int32)
    schema = pa.schema(
        [
            pa.field("user", pa.int32(), nullable=False),
            pa.field("items", list_type(), nullable=False),
            pa.field("target", pa.int32(), nullable=False),
        ]
    )
    column = pa.ListArray.from_arrays(sizes, values).cast(list_type())
    return pa.record_batch([pa.array(users), column, pa.array(targets)], schema=schema)


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> NextItemPreparation:
    return NextItemPreparation(model, pretrained, store)
