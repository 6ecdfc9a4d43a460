"""What a file holds, found by one reading of it before any work is done."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.domains.files import DataError, Source, digest_of, open_raw
from jobs.domains.records.dropping import Dropped
from jobs.domains.records.record import Bad
from jobs.domains.text import builtin
from jobs.domains.text.documents import documents, reading_of, spans
from jobs.domains.text.records import Document, Layout
from jobs.domains.text.splitting import KEPT_KEYS, key_of


@dataclass(frozen=True)
class Span:
    """A part of a file that is read by itself."""

    start: int
    stop: int
    documents: int
    """Documents that open here; a chunk of one that opened earlier is none."""
    characters: int


@dataclass(frozen=True)
class Inspection:
    """One file: digest, format, codec, what its spans hold, and what had to be dropped."""

    sha256: str
    form: str
    encoding: str
    spans: tuple[Span, ...]
    keys: tuple[float, ...]
    """Split keys of the first KEPT_KEYS documents."""
    dropped: dict[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def documents(self) -> int:
        return sum(span.documents for span in self.spans)

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, content: dict[str, Any]) -> "Inspection":
        found = tuple(Span(**span) for span in content["spans"])
        lists = {name: tuple(content[name]) for name in ("keys", "examples")}
        return cls(**content | lists | {"spans": found})


def inspect(source: Source, layout: Layout, seed: int) -> Inspection:
    """Reads all of a file. Raises DataError where it cannot be used."""
    reading = reading_of(source, layout)
    dropped = Dropped()
    keys: list[float] = []
    found = []
    for start, stop in spans(reading):
        num_documents = num_characters = 0
        for record in whole(documents(reading, start, stop)):
            if isinstance(record, Bad):
                dropped.add(record, "" if dropped.has_examples else _locate(source, record))
                continue
            num_characters += len(record.text)
            if record.opens:
                num_documents += 1
                if len(keys) < KEPT_KEYS:
                    keys.append(key_of(record.text, seed))
        found.append(Span(start, stop, num_documents, num_characters))
    if source.named and not source.is_builtin and not any(s.documents for s in found):
        _refuse_empty(source, dropped)
    digest = builtin.digest(source.path) if source.is_builtin else digest_of(source)
    return Inspection(
        digest,
        reading.form,
        reading.encoding,
        tuple(found),
        tuple(keys),
        dict(dropped.counts),
        tuple(dropped.examples),
    )


def whole(records: Iterator[Document | Bad]) -> Iterator[Document | Bad]:
    """The same records, with documents of nothing but white space as bad ones."""
    for record in records:
        if isinstance(record, Document) and record.is_empty:
            yield Bad("empty", record.place, record.after)
        else:
            yield record


def check_dropped(inspections: Sequence[Inspection], max_bad: float) -> dict[str, int]:
    """Dropped records by cause; DataError where their share is above `data.max_bad`."""
    num_good = sum(inspection.documents for inspection in inspections)
    return all_dropped(inspections).check(num_good, max_bad)


def all_dropped(inspections: Sequence[Inspection]) -> Dropped:
    """What was dropped from all files."""
    dropped = Dropped()
    for inspection in inspections:
        dropped.include(inspection.dropped, inspection.examples)
    return dropped


def _refuse_empty(source: Source, dropped: Dropped) -> None:
    if not dropped.total or set(dropped.counts) == {"empty"}:
        raise DataError(f"{source.path}: holds no text; leave it out of data.source")
    raise DataError(f"{source.path}: no record can be used ({dropped}); the first:{dropped.told()}")


def _locate(source: Source, record: Bad) -> str:
    """FILE:LINE of a record whose line was counted from a byte in the middle of the file."""
    if not record.after:
        return record.place
    path, _, line = record.place.rpartition(":")
    before, place = 0, 0
    with open_raw(source) as file:
        while place < record.after and (block := file.read(min(1 << 20, record.after - place))):
            before += block.count(b"\n")
            place += len(block)
    return f"{path}:{int(line) + before}"
