"""Preparing pictures for classification: from files to rows of raw pixels.

Rows hold `pixels`, bytes [channels * size * size] in the order channel, line, column, and `label`.
Pictures are decoded once here; training reads numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.domains.files import Source
from jobs.domains.records.preparation import RecordPreparation
from jobs.domains.records.record import Bad, Record
from jobs.domains.vision.decoding import PictureError, decode, examine, pixels_of
from jobs.domains.vision.pictures import Pictures
from jobs.domains.vision.pretrained import known_pictures, source_of
from jobs.domains.vision.readers import SUFFIXES, partners, read_pictures

if TYPE_CHECKING:
    from cluster.spec import ModelSpec
    from cluster.storage import Storage

LARGEST_OWN_SIZE = 64
"""Pictures of this side or less keep it where all have the same; others are brought to it."""
MEASURED = 20_000
"""Mean and deviation are those of about so many training pictures, evenly taken."""


class PicturePreparation(RecordPreparation):
    """See `jobs.domains.Preparation`."""

    suffixes = SUFFIXES

    def __init__(
        self, model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
    ) -> None:
        super().__init__(model, pretrained, store)
        self.shape: Any = model.network
        source = source_of(model.network, pretrained)
        self.known = known_pictures(source) if source is not None else None
        self.partners: dict[str, Source | None] = {}
        self.size, self.channels = 0, 0
        self._num_train = 0
        self._kinds: Counter[str] = Counter()

    def sources(self) -> list[Source]:
        found = super().sources()
        self.partners = partners(found)
        return found

    def read(
        self, source: Source, start: int = 0, stop: int | None = None
    ) -> Iterator[Record | Bad]:
        partner = self.partners.get(source.path)
        columns, encoding = self.columns("image"), self.data.encoding
        for record in read_pictures(source, partner, columns, encoding, start, stop):
            yield self._examined(record) if isinstance(record, Record) else record

    def task_settings(self) -> dict[str, Any]:
        if self.known is not None:
            return {"pictures": asdict(self.known)}
        return {"size": self.shape.size}

    def inspect(self, source: Source) -> dict[str, Any]:
        self._kinds = Counter()
        return super().inspect(source) | {"pictures": dict(self._kinds)}

    def plan(self, inspections: Sequence[dict[str, Any]]) -> dict[str, Any]:
        planned = super().plan(inspections)
        self._num_train = sum(counts["train"] for counts in planned["labels"].values())
        kinds = {kind for found in inspections for kind in found["pictures"]}
        sides = {int(kind.partition(" ")[0]) for kind in kinds}
        if self.known is not None:
            self.size, self.channels = self.known.size, self.known.channels
        else:
            self.channels = 3 if any(kind.endswith("RGB") for kind in kinds) else 1
            own = sides.pop() if len(sides) == 1 else LARGEST_OWN_SIZE
            self.size = min(own, LARGEST_OWN_SIZE)
            if self.shape.size != "auto":
                self.size = int(self.shape.size)
        return planned | {"pictures": {"size": self.size, "channels": self.channels}}

    def learn(
        self,
        records: Callable[[], Iterator[Record]],
        folder: Path,
        report: Callable[[str], None],
    ) -> None:
        if self.known is not None:
            self.known.save(folder)
            return
        every = max(1, self._num_train // MEASURED)
        count, total, squares = 0, np.zeros(self.channels), np.zeros(self.channels)
        for record in islice(records(), 0, None, every):
            pixels = self._pixels(record).astype(np.float64) / 255
            count += pixels[0].size
            total += pixels.sum((1, 2))
            squares += (pixels**2).sum((1, 2))
        mean = total / max(1, count)
        std = np.sqrt(np.maximum(squares / max(1, count) - mean**2, 0))
        # Pictures of one colour have no deviation; they stay finite.
        std = np.maximum(std, 1 / 255)
        means, stds = (tuple(round(float(v), 6) for v in values) for values in (mean, std))
        Pictures(self.size, self.channels, means, stds).save(folder)

    def rows(self, records: Sequence[Record], labels: NDArray[np.int64]) -> pa.RecordBatch:
        pixels = np.stack([self._pixels(record).ravel() for record in records])
        return pa.record_batch(
            {
                "pixels": pa.FixedSizeListArray.from_arrays(
                    pa.array(pixels.ravel()), pixels.shape[1]
                ),
                "label": pa.array(labels, pa.int64()),
            }
        )

    def _examined(self, record: Record) -> Record | Bad:
        """The same, or what is wrong with its picture; large ones are decoded small here."""
        assert isinstance(record.content, bytes)
        try:
            side, mode = examine(record.content)
        except PictureError as error:
            return Bad(str(error), record.place)
        self._kinds[f"{side} {mode}"] += 1
        return record

    def _pixels(self, record: Record) -> NDArray[np.uint8]:
        assert isinstance(record.content, bytes)
        return pixels_of(decode(record.content, self.size), self.size, self.channels)


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> PicturePreparation:
    return PicturePreparation(model, pretrained, store)
