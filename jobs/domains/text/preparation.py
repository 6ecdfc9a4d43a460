"""Preparing text for a causal language model: from files to rows of tokens.

Each document becomes its tokens and an end-of-text mark, and a mark stands before the first of a
split, so that the network learns how documents begin. Where a corpus is cut in the middle of a
document, no mark comes between.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.domains import Block
from jobs.domains.files import DataError, Source, find_sources
from jobs.domains.text.documents import SUFFIXES, documents, reading_of, spans
from jobs.domains.text.inspection import Inspection, all_dropped, check_dropped, inspect, whole
from jobs.domains.text.packing import Packer, stream_batch
from jobs.domains.text.pretrained import context_of
from jobs.domains.text.records import Document, Layout, Reading
from jobs.domains.text.splitting import FEW_DOCUMENTS, SPLITS, Borders, by_key, cut, key_of
from jobs.domains.text.tokenizing import fit_vocabulary, tokenizer_settings
from jobs.domains.text.vocabulary import STREAM, Ids, Vocabulary

if TYPE_CHECKING:
    from cluster.spec import DataSpec, ModelSpec
    from cluster.storage import Storage

FITTED_CHARACTERS = 256 << 20
"""A vocabulary is learned from about so much text, evenly spread over the training split."""


@dataclass(frozen=True)
class Piece:
    """A span of a file, and what is known of its place in the corpus."""

    reading: Reading
    start: int
    stop: int
    characters: int
    offset: int
    """Characters of the corpus before this span; counts only where the corpus is cut."""
    key: float | None
    """The split key of the document that all of the span belongs to."""


class GenerationPreparation:
    """See `jobs.domains.Preparation`."""

    marks = STREAM

    def __init__(
        self, model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
    ) -> None:
        data = model.data
        self.model = model
        self.store = store
        self.data = data
        self.pretrained = pretrained
        self.context = context_of(model.network, pretrained)
        self.layout = layout_of(data)
        self.borders = Borders(False, 0.0, 0.0)
        self.pieces: list[Piece] = []
        self.vocabulary: Vocabulary | None = None
        self._packer: Packer | None = None
        self._counts: dict[str, Counter[str]] = {}
        self._told = ""
        for key in ("by", "time"):
            if getattr(data.split, key) is not None:
                raise DataError(
                    f"data.split.{key}: text generation splits by whole documents; leave it out"
                )

    def sources(self) -> list[Source]:
        found = find_sources(self.data.source, SUFFIXES, store=self.store)
        for part in ("validation", "test"):
            place = getattr(self.data.split, part)
            if isinstance(place, str):
                found += find_sources([place], SUFFIXES, part, self.store)
        self._sources = found
        return found

    def settings(self) -> dict[str, Any]:
        shares = {
            part: "files" if isinstance(share, str) else share for part, share in self._given()
        }
        return {
            "context": self.context,
            "split": shares,
            "seed": self.data.seed,
            "column": self.layout.column,
            "encoding": self.data.encoding,
            "tokenizer": tokenizer_settings(self.model, self.pretrained),
        }

    def inspect(self, source: Source) -> dict[str, Any]:
        return inspect(source, self.layout, self.data.seed).dump()

    def plan(self, inspections: Sequence[dict[str, Any]]) -> dict[str, Any]:
        found = [Inspection.parse(content) for content in inspections]
        dropped = check_dropped(found, self.data.max_bad)
        self._told = all_dropped(found).line(sum(i.documents for i in found))
        pairs = list(zip(self._sources, found, strict=True))
        own = [(source, i) for source, i in pairs if not source.part]
        self.borders = self._borders([i for _, i in own])
        offset = 0
        self.pieces = []
        for source, inspection in pairs:
            for piece in self._pieces(source, inspection):
                self.pieces.append(replace(piece, offset=offset))
                offset += 0 if source.part else piece.characters
        cut_at = "end" if self.borders.is_cut else "documents"
        return {"dropped": dropped, "split_by": cut_at, "examples": _examples(found)}

    @property
    def num_pieces(self) -> int:
        return len(self.pieces)

    def fit(self, folder: Path, report: Callable[[str], None]) -> None:
        if self._told:
            report(self._told)
        self.vocabulary = fit_vocabulary(
            self.model, self.pretrained, self.marks, self._training_texts(), folder, report
        )

    def encode(self, piece: int) -> Iterator[Block]:
        assert self.vocabulary is not None
        end = np.asarray([self.vocabulary.end], np.int32)
        tokens: dict[str, list[Ids]] = defaultdict(list)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for split, document in self._parts(self.pieces[piece]):
            if not tokens[split]:
                counts[split]["begins"] = int(document.opens)
            tokens[split].append(self.vocabulary.encode(document.text))
            tokens[split] += [end] if document.closes else []
            counts[split]["characters"] += len(document.text)
            counts[split]["bytes"] += len(document.text.encode("utf-8", "surrogatepass"))
            counts[split]["documents"] += document.opens
        for split in tokens:
            yield Block(split, stream_batch(tokens[split]), dict(counts[split]))

    def pack(self, blocks: Iterable[Block]) -> Iterator[tuple[str, pa.RecordBatch]]:
        assert self.vocabulary is not None
        self._packer = Packer(self.context, self.vocabulary.size)
        self._counts = {split: Counter() for split in SPLITS}
        for block in blocks:
            yield from self._pack(block)
        for split, rows in self._packer.finish():
            self._counts[split]["rows"] += rows.num_rows
            yield split, rows

    def counts(self) -> dict[str, dict[str, int]]:
        assert self._packer is not None
        shares = {"train": 1.0} | dict(self._given())
        for split, counts in self._counts.items():
            counts["tokens_left"] = max(0, self._packer.rest(split).size - bool(counts["rows"]))
            if shares[split] and not counts["rows"]:
                raise _too_little(split, counts["tokens"], self.context)
        names = ("documents", "characters", "bytes", "tokens", "rows", "tokens_left")
        return {split: {n: counts[n] for n in names} for split, counts in self._counts.items()}

    def _pack(self, block: Block) -> Iterator[tuple[str, pa.RecordBatch]]:
        assert self._packer is not None
        assert self.vocabulary is not None
        counts = self._counts[block.split]
        tokens = block.rows.column(0).to_numpy()
        if not counts["tokens"] and block.counts["begins"]:
            tokens = np.concatenate([np.asarray([self.vocabulary.end], np.int32), tokens])
        counts.update(block.counts)
        counts["tokens"] += tokens.size
        for split, rows in self._packer.add(block.split, tokens):
            counts["rows"] += rows.num_rows
            yield split, rows

    def _given(self) -> list[tuple[str, float | str]]:
        return [(part, getattr(self.data.split, part)) for part in ("validation", "test")]

    def _borders(self, own: Sequence[Inspection]) -> Borders:
        validation, test = (0.0 if isinstance(s, str) else float(s) for _, s in self._given())
        num_documents = sum(inspection.documents for inspection in own)
        if num_documents < FEW_DOCUMENTS:
            num_characters = sum(span.characters for i in own for span in i.spans)
            return cut(num_characters, validation, test)
        keys = [key for inspection in own for key in inspection.keys]
        return by_key(keys, num_documents, validation, test)

    def _pieces(self, source: Source, found: Inspection) -> Iterator[Piece]:
        reading = Reading(source, found.form, found.encoding, self.layout)
        key = found.keys[0] if found.form == "text" and found.keys else None
        for span in found.spans:
            if span.characters:
                yield Piece(reading, span.start, span.stop, span.characters, 0, key)

    def _parts(self, piece: Piece) -> Iterator[tuple[str, Document]]:
        """The documents of a piece with their splits; where one is cut, its parts."""
        offset = piece.offset
        for document in whole(documents(piece.reading, piece.start, piece.stop)):
            if not isinstance(document, Document):
                continue
            length = len(document.text)
            if piece.reading.source.part:
                yield piece.reading.source.part, document
            elif not self.borders.is_cut:
                key = piece.key
                key = key_of(document.text, self.data.seed) if key is None else key
                yield self.borders.of_key(key), document
            else:
                for split, low, high in self.borders.of_characters(offset, length):
                    yield split, _part(document, low, high)
            offset += length

    def _training_texts(self) -> Iterator[str]:
        """Texts to learn a vocabulary from: all of training, or pieces evenly spread over it."""
        total = sum(piece.characters for piece in self.pieces)
        every = max(1, total // FITTED_CHARACTERS)
        for piece in self.pieces[::every]:
            for split, document in self._parts(piece):
                if split == "train":
                    yield document.text


def layout_of(data: DataSpec) -> Layout:
    """How the spec says that files are read."""
    return Layout(data.columns.get("text", "text"), data.encoding)


def tokens_of(sources: Sequence[Source], layout: Layout, vocabulary: Vocabulary) -> Iterator[Ids]:
    """All text of some files as training sees it, piece by piece; records in no use are left out.

    Raises DataError where a file cannot be used.
    """
    end = np.asarray([vocabulary.end], np.int32)
    is_first = True
    for source in sources:
        reading = reading_of(source, layout)
        for record in whole(documents(reading, 0, _to_the_end(reading))):
            if isinstance(record, Document):
                marks = ([end] if is_first else []), ([end] if record.closes else [])
                yield np.concatenate([*marks[0], vocabulary.encode(record.text), *marks[1]])
                is_first = False


def _to_the_end(reading: Reading) -> int:
    return spans(reading)[-1][1]


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> GenerationPreparation:
    return GenerationPreparation(model, pretrained, store)


def _part(document: Document, low: int, high: int) -> Document:
    """Characters low <= i < high of a document; whole where they are all of it."""
    opens, closes = document.opens and low == 0, document.closes and high == len(document.text)
    return Document(document.text[low:high], opens, closes, document.place)


def _examples(found: Sequence[Inspection]) -> list[str]:
    return [example for inspection in found for example in inspection.examples][:5]


def _too_little(split: str, num_tokens: int, context: int) -> DataError:
    return DataError(
        f"the {split} split holds {num_tokens:,} tokens, less than one row of {context + 1} "
        "(network.context + 1); give more text, or lower network.context"
        + ("" if split == "train" else f", or raise data.split.{split}")
    )
