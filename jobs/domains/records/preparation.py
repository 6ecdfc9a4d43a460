"""Preparing data that are records: read, checked, divided, encoded."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from jobs.domains import Block
from jobs.domains.files import DataError, Source, digest_of, find_sources
from jobs.domains.records.record import Bad, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec import ModelSpec
    from cluster.storage import Storage

SPLITS = ("train", "validation", "test")
LABELS = "labels.json"
BLOCK_RECORDS = 512


class RecordPreparation:
    """See `jobs.domains.Preparation`; a task subclasses it and gives the methods below."""

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
        self.num_pieces = 0
        self._pieces: list[tuple[int, int, int]] = []
        self._counts: dict[str, Counter[str]] = {}

    # What a task gives

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

    # What jobs.prepare calls

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
        shares = {
            part: "files" if isinstance(share, str) else share
            for part, share in (("validation", split.validation), ("test", split.test))
        }
        return {
            "split": shares | {"by": split.by},
            "seed": self.data.seed,
            "columns": dict(self.data.columns),
            "encoding": self.data.encoding,
            **self.task_settings(),
        }

    def inspect(self, source: Source) -> dict[str, Any]:
        names: dict[str, int] = {}
        digests, labels, dropped = bytearray(), [], Counter[str]()
        examples: list[str] = []
        total = hashlib.sha256()
        for record in self.read(source):
            if isinstance(record, Bad):
                dropped[record.kind] += 1
                if len(examples) < 5:
                    examples.append(f"{record.place}: {record.cause}")
                digests += bytes(8)
                labels.append(-2)
                continue
            digest = hashlib.blake2b(self.identity(record), digest_size=8).digest()
            digests += digest
            total.update(digest + (record.label or "").encode())
            labels.append(
                -1 if record.label is None else names.setdefault(record.label, len(names))
            )
        return {
            "sha256": total.hexdigest() if source.is_builtin else digest_of(source),
            "names": list(names),
            "digests": b64encode(digests).decode(),
            "labels": b64encode(np.asarray(labels, np.int32).tobytes()).decode(),
            "dropped": dict(dropped),
            "examples": examples,
            **self.describe(source),
        }

    def plan(self, inspections: Sequence[dict[str, Any]]) -> dict[str, Any]:
        names = sorted({name for found in inspections for name in found["names"]}, key=_order)
        self.labels = names
        numbers = {name: i for i, name in enumerate(names)}
        digests, labels, parts = [], [], []
        self._starts = [0]
        for source, found in zip(self._sources, inspections, strict=True):
            own = np.frombuffer(b64decode(found["labels"]), np.int32)
            table = np.asarray([numbers[name] for name in found["names"]] + [-2, -1], np.int32)
            labels.append(table[own])
            digests.append(np.frombuffer(b64decode(found["digests"]), np.uint64))
            parts.append(np.full(own.size, SPLITS.index(source.part) if source.part else -1))
            self._starts.append(self._starts[-1] + own.size)
        self._labels = np.concatenate(labels)
        split = self._divide(np.concatenate(digests), np.concatenate(parts))
        self._split = split
        self._pieces = [
            (i, start, min(start + 8192, size))
            for i, size in enumerate(np.diff(self._starts).tolist())
            for start in range(0, size, 8192)
        ]
        self.num_pieces = len(self._pieces)
        dropped: Counter[str] = Counter()
        for found in inspections:
            dropped.update(found["dropped"])
        counts = {
            name: {s: int(((split == i) & (self._labels == k)).sum()) for i, s in enumerate(SPLITS)}
            for k, name in enumerate(names)
        }
        examples = [text for found in inspections for text in found["examples"]][:5]
        return {"dropped": dict(dropped), "labels": counts, "duplicates": 0, "examples": examples}

    def _divide(self, digests: NDArray[Any], parts: NDArray[Any]) -> NDArray[np.int8]:
        split = np.where(parts >= 0, parts, 0).astype(np.int8)
        order = np.argsort(digests, kind="stable")
        for label in range(-1, len(self.labels)):
            own = order[(self._labels[order] == label) & (parts[order] < 0)]
            start = 0
            for i, share in ((1, self.data.split.validation), (2, self.data.split.test)):
                if isinstance(share, float) and share:
                    many = max(round(share * own.size), int(own.size > 2))
                    split[own[start : start + many]] = i
                    start += many
        split[self._labels == -2] = -1
        return split

    def fit(self, folder: Path, report: Callable[[str], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.labels:
            text = json.dumps(self.labels, ensure_ascii=False)
            (folder / LABELS).write_text(text, "utf-8")
        self.learn(self._training_records, folder, report)

    def encode(self, piece: int) -> Iterator[Block]:
        held: dict[int, list[tuple[Record, int]]] = {0: [], 1: [], 2: []}
        for split, record, label in self._records(piece):
            held[split].append((record, label))
            if len(held[split]) == BLOCK_RECORDS:
                yield self._block(split, held[split])
                held[split] = []
        for split, pairs in held.items():
            if pairs:
                yield self._block(split, pairs)

    def pack(self, blocks: Iterable[Block]) -> Iterator[tuple[str, pa.RecordBatch]]:
        self._counts = {split: Counter(rows=0, bytes=0) for split in SPLITS}
        for block in blocks:
            self._counts[block.split].update(block.counts)
            yield block.split, block.rows

    def counts(self) -> dict[str, dict[str, int]]:
        return {split: dict(counts) for split, counts in self._counts.items()}

    def _block(self, split: int, pairs: list[tuple[Record, int]]) -> Block:
        rows = self.rows([r for r, _ in pairs], np.asarray([n for _, n in pairs], np.int64))
        if rows.num_rows != len(pairs):
            raise DataError("internal: rows are not one for each record")
        size = sum(len(record.content) for record, _ in pairs)
        return Block(SPLITS[split], rows, {"rows": rows.num_rows, "bytes": size})

    def _records(self, piece: int) -> Iterator[tuple[int, Record, int]]:
        """(split, record, label) of a piece, without those that are left out."""
        i, start, stop = self._pieces[piece]
        at = self._starts[i] + start
        for number, record in enumerate(self.read(self._sources[i], start, stop), at):
            if isinstance(record, Record) and self._split[number] >= 0:
                yield int(self._split[number]), record, int(self._labels[number])

    def _training_records(self) -> Iterator[Record]:
        for piece in range(self.num_pieces):
            yield from (record for split, record, _ in self._records(piece) if split == 0)


def _order(name: str) -> tuple[int, float, str]:
    """Numbers by their value, before all else by text."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
