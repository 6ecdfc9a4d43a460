"""Preparing data that are records: read, checked, divided, encoded."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from jobs.domains import Block
from jobs.domains.albums import digest_of, find_sources
from jobs.domains.files import DataError, Source
from jobs.domains.records import catalog as catalogs
from jobs.domains.records.catalog import Catalog, Notes
from jobs.domains.records.dividing import (
    LEFT_OUT,
    SPLITS,
    Division,
    check_classes,
    check_labels,
    counts_of,
    divide,
)
from jobs.domains.records.dropping import Dropped
from jobs.domains.records.pieces import Piece, cut
from jobs.domains.records.record import Bad, Record
from jobs.domains.records.tables import Row, read_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec import ModelSpec
    from cluster.storage import Storage

LABELS = "labels.json"
BLOCK_RECORDS = 2048
BLOCK_BYTES = 8 << 20


class RecordPreparation:
    """See `jobs.domains.Preparation`; a task subclasses it and gives the first few methods."""

    suffixes: ClassVar[frozenset[str]]
    """Of the files that are read from folders."""
    has_labels: ClassVar[bool] = True
    """Whether a record without a label is of no use."""

    def __init__(
        self, model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
    ) -> None:
        self.model, self.data, self.network = model, model.data, model.network
        self.pretrained, self.store = pretrained, store
        self.labels: list[str] = []
        """Names of the classes, in order; known after `plan`."""
        self.pieces: list[Piece] = []
        self._catalog: Catalog | None = None
        self._division: Division | None = None
        self._told = ""
        self._counts: dict[str, Counter[str]] = {}

    def read(
        self, source: Source, start: int = 0, stop: int | None = None
    ) -> Iterator[Record | Bad]:
        """Records start <= i < stop of a file in fixed order, counting bad ones."""
        raise NotImplementedError

    def task_settings(self) -> dict[str, Any]:
        """What else decides the rows: the network's context, the size of pictures."""
        raise NotImplementedError

    def rows(self, records: Sequence[Record], labels: NDArray[np.int64]) -> pa.RecordBatch:
        """The encoded rows of records whose labels are numbers [records], -1 without labels."""
        raise NotImplementedError

    def learn(
        self,
        records: Callable[[], Iterator[Record]],
        folder: Path,
        report: Callable[[str], None],
    ) -> None:
        """Learns from the training records (a vocabulary) and writes it to `folder`."""

    def identity(self, record: Record) -> bytes:
        """Equal for duplicates."""
        content = record.content
        return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content

    def describe(self, source: Source) -> dict[str, Any]:
        """What the manifest says of a file, such as {"form", "encoding"}."""
        return {}

    def read_rows(
        self, source: Source, content: str, start: int = 0, stop: int | None = None
    ) -> Iterator[Record | Bad]:
        """`read` for a table whose role `content` is the text; the label's column by `label`."""
        columns = self.columns(content)
        for row in read_table(source, columns, self.data.encoding, start, stop):
            yield row if isinstance(row, Bad) else record_of(row, content)

    def columns(self, content: str) -> dict[str, str | int]:
        """Roles to columns: `content` and label (of these names by default), group and time."""
        split = self.data.split
        wanted = {"group": split.by, "time": split.time}
        found = {content: content} | ({"label": "label"} if self.has_labels else {})
        return {**found, **self.data.columns, **{r: c for r, c in wanted.items() if c is not None}}

    def sources(self) -> list[Source]:
        found = find_sources(self.data.source, self.suffixes, store=self.store)
        for part in ("validation", "test"):
            place = getattr(self.data.split, part)
            if isinstance(place, str):
                found += find_sources([place], self.suffixes, part, self.store)
        self._sources = found
        return found

    def settings(self) -> dict[str, Any]:
        split = self.data.split
        parts = {"validation": split.validation, "test": split.test}
        shares = {p: "files" if isinstance(share, str) else share for p, share in parts.items()}
        return {
            "split": shares | {"by": split.by, "time": split.time},
            "seed": self.data.seed,
            "columns": dict(self.data.columns),
            "encoding": self.data.encoding,
            **self.task_settings(),
        }

    def inspect(self, source: Source) -> dict[str, Any]:
        notes, dropped, content = Notes(), Dropped(), hashlib.sha256()
        split = self.data.split
        for record in self.read(source):
            checked = self._checked(record)
            if isinstance(checked, Bad):
                dropped.add(checked)
                notes.add_bad()
                continue
            digest = catalogs.digest_of(self.identity(checked))
            time = None if split.time is None else catalogs.parse_time(checked.time or 0.0)
            label = checked.label.strip() if self.has_labels and checked.label else None
            notes.add(digest, label, checked.group, time)
            content.update(digest + (label or "").encode("utf-8", "surrogatepass"))
        return {
            "sha256": content.hexdigest() if source.is_builtin else digest_of(source),
            "dropped": dict(dropped.counts),
            "examples": dropped.examples,
            **notes.dump(split.by is not None, split.time is not None),
            **self.describe(source),
        }

    def plan(self, inspections: Sequence[dict[str, Any]]) -> dict[str, Any]:
        catalog = Catalog([source.part for source in self._sources], inspections)
        dropped = Dropped()
        for found in inspections:
            dropped.include(found["dropped"], found["examples"])
        num_good = int((catalog.labels != catalogs.BAD).sum())
        if not num_good:
            raise DataError(_nothing(dropped))
        dropped.check(num_good, self.data.max_bad)
        if self.has_labels:
            check_labels(catalog)
        self._catalog = catalog
        division = divide(catalog, self.data.split, self.data.seed, dropped, self._locate)
        num_good = int((division.sides >= 0).sum()) + division.duplicates
        counts = dropped.check(num_good, self.data.max_bad)
        if self.has_labels:
            check_classes(catalog, division.sides, self.data.split)
        self._division, self.labels = division, catalog.names
        self.pieces = cut(catalog.starts)
        self._told = _told(dropped, num_good, division)
        return {
            "dropped": counts,
            "examples": dropped.examples,
            "duplicates": division.duplicates,
            "contradictions": division.contradictions,
            "labels": counts_of(catalog, division.sides),
        }

    @property
    def num_pieces(self) -> int:
        return len(self.pieces)

    def fit(self, folder: Path, report: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self._told:
            report(self._told)
        if self.has_labels:
            text = json.dumps(self.labels, ensure_ascii=False)
            (folder / LABELS).write_text(text, "utf-8")
        self.learn(self._training_records, folder, report)

    def encode(self, piece: int) -> Iterator[Block]:
        held: dict[int, list[tuple[Record, int]]] = {side: [] for side in range(len(SPLITS))}
        sizes = dict.fromkeys(held, 0)
        for file, start, stop in self.pieces[piece]:
            for side, record, label in self._records(file, start, stop):
                held[side].append((record, label))
                sizes[side] += len(record.content)
                if len(held[side]) == BLOCK_RECORDS or sizes[side] > BLOCK_BYTES:
                    yield self._block(side, held[side], sizes[side])
                    held[side], sizes[side] = [], 0
        for side, pairs in held.items():
            if pairs:
                yield self._block(side, pairs, sizes[side])

    def pack(self, blocks: Iterable[Block]) -> Iterator[tuple[str, pa.RecordBatch]]:
        self._counts = {split: Counter(rows=0, bytes=0) for split in SPLITS}
        for block in blocks:
            self._counts[block.split].update(block.counts)
            yield block.split, block.rows

    def counts(self) -> dict[str, dict[str, int]]:
        return {split: dict(counts) for split, counts in self._counts.items()}

    def _checked(self, record: Record | Bad) -> Record | Bad:
        """The same record, or what is wrong with it."""
        if isinstance(record, Bad):
            return record
        if not record.content or (isinstance(record.content, str) and record.content.isspace()):
            return Bad("empty", record.place)
        if self.has_labels and not (record.label and record.label.strip()):
            return Bad("no label", record.place)
        split = self.data.split
        if split.by is not None and not record.group:
            return Bad(f"nothing in {split.by!r} to split by", record.place)
        if split.time is not None:
            try:
                catalogs.parse_time("" if record.time is None else record.time)
            except (ValueError, OverflowError):
                cause = f"no time in {split.time!r} ({str(record.time)[:40]!r} is neither a number "
                return Bad(cause + "nor an ISO date)", record.place)
        return record

    def _block(self, side: int, pairs: list[tuple[Record, int]], size: int) -> Block:
        labels = np.asarray([label for _, label in pairs], np.int64)
        rows = self.rows([record for record, _ in pairs], labels)
        assert rows.num_rows == len(pairs), "one row for each record"
        return Block(SPLITS[side], rows, {"rows": rows.num_rows, "bytes": size})

    def _records(
        self, file: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, Record, int]]:
        """(side, record, label) of a file, without those that are left out."""
        assert self._catalog is not None
        assert self._division is not None
        first = self._catalog.starts[file] + start
        for number, record in enumerate(self.read(self._sources[file], start, stop), first):
            side = int(self._division.sides[number])
            if side != LEFT_OUT and isinstance(record, Record):
                yield side, record, int(self._catalog.labels[number])

    def _training_records(self) -> Iterator[Record]:
        for file in range(len(self._sources)):
            yield from (record for side, record, _ in self._records(file) if side == 0)

    def _locate(self, number: int) -> str:
        """Where a record stands, by reading its file again."""
        assert self._catalog is not None
        file = int(np.searchsorted(self._catalog.starts, number, side="right")) - 1
        at = number - self._catalog.starts[file]
        return next(self.read(self._sources[file], at, at + 1)).place


def record_of(row: Row, content: str) -> Record:
    """A row of a table as a record; roles that have no field of their own are `extra`."""
    cells = dict(row.cells)
    known = {name: cells.pop(name, None) for name in ("label", "group", "time")}
    return Record(cells.pop(content), place=row.place, extra=cells, **known)


def _nothing(dropped: Dropped) -> str:
    if not dropped.total:
        return "data.source holds no records; check that it is the file that you mean"
    return f"data.source: no record can be used ({dropped}); the first:{dropped.told()}"


def _told(dropped: Dropped, num_good: int, division: Division) -> str:
    """One line for the screen on what was left out."""
    parts = [dropped.line(num_good)] if dropped.total else []
    if division.duplicates:
        parts.append(f"{division.duplicates:,} duplicates kept once")
    if division.contradictions:
        parts.append(f"{division.contradictions:,} of them with contradicting labels")
    return "; ".join(parts)
