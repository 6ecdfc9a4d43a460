"""Preparing recordings with what is said in them, for recognition and synthesis.

Rows hold `audio`, int16 samples of one channel at one rate and loudness, and `text` and `speaker`
as code points; all three are lists of their own lengths. Samples, not spectrograms: they are
varied in training (speed, noise), half the size of 80 mels a hundredth of a second, and can be
heard in reports.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.domains import Block
from jobs.domains.files import DataError, Source
from jobs.domains.records.preparation import RecordPreparation
from jobs.domains.records.record import Bad, Record
from jobs.domains.speech import readers
from jobs.domains.speech.characters import TEXTS, Characters, column, spoken, written
from jobs.domains.speech.features import Mels
from jobs.domains.speech.pretrained import Known, copy_processor, known_processor, source_of
from jobs.domains.speech.sounds import Sound, SoundError, decode

if TYPE_CHECKING:
    from cluster.spec import ModelSpec
    from cluster.storage import Storage

SUFFIXES = readers.SUFFIXES
SPEAKERS = "speakers.json"
MOST_TEXTS = 1_000
"""A list of all that may be heard has so many texts at most."""
FRAMES_S = {"recognition": (0.025, 0.010), "synthesis": (0.050, 0.0125)}
"""Window and hop: those of recognisers, and of Tacotron 2 (arXiv:1712.05884, section 2.1)."""


class SpeechPreparation(RecordPreparation):
    """See `jobs.domains.Preparation`."""

    suffixes = SUFFIXES
    has_labels = False

    def __init__(
        self, model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
    ) -> None:
        super().__init__(model, pretrained, store)
        self.task = model.task
        self.shape: Any = model.network
        source = source_of(model.network, pretrained)
        self.known = known_processor(source) if source is not None else None
        audio = model.data.audio
        rate = self.known.rate if self.known is not None else audio.rate
        _check_length(self.known, audio.longest)
        self.sound = Sound(rate, audio.longest, audio.trim, audio.loudness)
        self.plain = spoken if self.task == "recognition" else written
        self.characters: Characters | None = None
        self._only_texts = False

    def read(
        self, source: Source, start: int = 0, stop: int | None = None
    ) -> Iterator[Record | Bad]:
        """Records whose content is their samples, as bytes of int16."""
        has_sound = not self._only_texts
        wanted = readers.Wanted(self.columns("audio"), self.data.encoding, start, stop, has_sound)
        for record in readers.read_recordings(source, wanted):
            yield record if isinstance(record, Bad) else self._heard(record, has_sound)

    def columns(self, content: str) -> dict[str, str | int]:
        return {content: content, "text": "text"} | super().columns(content)

    def task_settings(self) -> dict[str, Any]:
        mels = None if self.known is not None else asdict(self._mels())
        known = self.known.digest if self.known is not None else None
        settings = {"sound": asdict(self.sound), "mels": mels, "processor": known}
        return settings | ({"decode": "known"} if self.is_list else {})

    @property
    def is_list(self) -> bool:
        """Whether nothing but the training part's texts may be heard."""
        return getattr(self.shape, "decode", None) == "known"

    def learn(
        self,
        records: Callable[[], Iterator[Record]],
        folder: Path,
        report: Callable[[str], None],
    ) -> None:
        self.sound.save(folder)
        self._only_texts = True
        try:
            speakers, texts, characters = self._learned(records())
        finally:
            self._only_texts = False
        (folder / SPEAKERS).write_text(json.dumps(speakers, ensure_ascii=False), "utf-8")
        if self.is_list:
            _save_texts(texts, folder)
        self.characters = Characters.learn(characters)
        if self.known is not None:
            self.characters = copy_processor(self.known, folder, self.characters)
            return
        self._mels().save(folder)
        self.characters.save(folder)

    def rows(self, records: Sequence[Record], labels: NDArray[np.int64]) -> pa.RecordBatch:
        samples = [np.frombuffer(_bytes(record), np.int16) for record in records]
        return pa.record_batch(
            {
                "audio": pa.array(samples, pa.list_(pa.int16())),
                "text": column([record.extra["text"] for record in records]),
                "speaker": column([record.extra.get("speaker", "") for record in records]),
            }
        )

    def encode(self, piece: int) -> Iterator[Block]:
        for block in super().encode(piece):
            yield replace(block, counts=block.counts | self._noted(block.rows))

    def _mels(self) -> Mels:
        return Mels.of(self.sound.rate, self.shape.mels, *FRAMES_S[self.task])

    def _heard(self, record: Record, has_sound: bool) -> Record | Bad:
        """The record decoded, or what is wrong with its recording or its text."""
        text = self.plain(record.extra.get("text", ""))
        if not text:
            return Bad("no word in its text", record.place)
        extra = {**record.extra, "text": text}
        if not has_sound:
            return replace(record, extra=extra)
        try:
            samples = decode(_bytes(record), self.sound)
        except SoundError as error:
            return Bad(str(error), record.place)
        return replace(record, content=samples.tobytes(), extra=extra)

    def _learned(self, records: Iterable[Record]) -> tuple[list[str], set[str], set[str]]:
        """Speakers and characters of the training records, and their texts if these are a list."""
        speakers: set[str] = set()
        texts: set[str] = set()
        characters: set[str] = set()
        for record in records:
            speakers.add(record.extra.get("speaker", ""))
            characters.update(record.extra["text"])
            if self.is_list and len(texts) <= MOST_TEXTS:
                texts.add(record.extra["text"])
        return sorted(speakers), texts, characters

    def _noted(self, rows: pa.RecordBatch) -> dict[str, int]:
        """For the manifest: seconds, and characters that no training text has, by name."""
        assert self.characters is not None
        samples = rows.column("audio").values
        found = Counter({"seconds": round(len(samples) / self.sound.rate)})
        for text in rows.column("text").to_pylist():
            unknown = self.characters.unknown("".join(map(chr, text)))
            found.update(f'unknown character "{character}"' for character in unknown)
        return dict(found)


def _save_texts(texts: set[str], folder: Path) -> None:
    if len(texts) > MOST_TEXTS:
        raise DataError(
            f"network.decode: known is for lists of up to {MOST_TEXTS:,} different texts, and the "
            "training part has more; set network.decode to greedy"
        )
    (folder / TEXTS).write_text(json.dumps(sorted(texts), ensure_ascii=False), "utf-8")


def _check_length(known: Known | None, longest_s: float) -> None:
    if known is not None and known.longest_s is not None and longest_s > known.longest_s:
        raise DataError(
            f"data.audio.longest: {longest_s:g} s is more than the {known.longest_s:g} s that "
            "network.pretrained can hear; lower it, and longer recordings are left out"
        )


def _bytes(record: Record) -> bytes:
    assert isinstance(record.content, bytes)
    return record.content


def speakers_of(folder: Path) -> list[str]:
    """The speakers of the training records, sorted; [""] where the data names none."""
    found: list[str] = json.loads((folder / SPEAKERS).read_text("utf-8"))
    return found


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> SpeechPreparation:
    if model.task == "synthesis" and source_of(model.network, pretrained) is not None:
        raise DataError("network.pretrained: synthesis has no pretrained networks; use tacotron2")
    return SpeechPreparation(model, pretrained, store)
