"""Any recordings with their texts as batches of rows, through a model's own processor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.domains import Columns
from jobs.domains.albums import find_sources
from jobs.domains.records.dropping import Dropped
from jobs.domains.records.record import Bad
from jobs.domains.speech.characters import text_column
from jobs.domains.speech.padding import joined_rows
from jobs.domains.speech.preparation import SUFFIXES, SpeechPreparation
from jobs.domains.speech.sounds import Sound

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


def read_rows(
    model: ModelSpec, pretrained: Path | None, processor: Path, paths: Sequence[str], size: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Batches of up to `size` rows; DataError where too many records cannot be used."""
    preparation = SpeechPreparation(model, pretrained)
    preparation.sound = Sound.load(processor)
    dropped, num_good = Dropped(), 0
    rows: list[Columns] = []
    for source in find_sources(paths, SUFFIXES):
        for record in preparation.read(source):
            if isinstance(record, Bad):
                dropped.add(record)
                continue
            num_good += 1
            assert isinstance(record.content, bytes)
            samples = np.frombuffer(record.content, np.int16)
            rows.append(
                {
                    "audio": samples[None],
                    "audio_length": np.asarray([len(samples)], np.int64),
                    **text_column("text", record.extra["text"]),
                    **text_column("speaker", record.extra.get("speaker", "")),
                }
            )
            if len(rows) == size:
                yield joined_rows(rows)
                rows = []
    dropped.check(num_good, model.data.max_bad)
    if rows:
        yield joined_rows(rows)
