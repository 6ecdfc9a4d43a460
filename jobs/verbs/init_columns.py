"""Which column of a table holds what, guessed from its name and its first rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from jobs.domains.albums import PICTURES
from jobs.domains.encodings import decode, read_blocks
from jobs.domains.files import DataError, Source, open_source
from jobs.domains.records.catalog import parse_time
from jobs.domains.records.delimited import dialect_of, read_cells, split_lines
from jobs.domains.records.tables import PARQUET_ROWS, as_text, describe_table, open_parquet

T = TypeVar("T")
SAMPLED_ROWS = 2000
HINTS = {
    "text": "text body review comment sentence content title message description subject question "
    "transcript tweet document headline utterance 文本 内容 评论 标题",
    "label": "label class category queue target sentiment topic tag intent y stars polarity "
    "labels classes categorie kategorie 标签 类别",
    "image": "image img picture photo file filename path",
    "audio": "audio wav sound recording speech",
    "user": "user userid uid member memberid",
    "item": "item itemid movie movieid product productid book bookid song songid track asin iid",
    "rating": "rating ratings score stars",
    "group": "customer customerid client user userid author patient speaker session account",
    "time": "time date timestamp datetime created createdat day",
}
KNOWN = {role: frozenset(words.split()) for role, words in HINTS.items()}
SOUND_ENDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
LABEL_CHARACTERS = 60
HEADING_CHARACTERS = 40
LONG_TEXT = 40
"""Mean characters from which a column holds texts and not names of users or items."""


@dataclass(frozen=True)
class Column:
    """One column of the sample."""

    key: str | int
    """Its name, or its position where the file has no names."""
    values: list[Any]

    @cached_property
    def texts(self) -> list[str]:
        return [text for value in self.values if (text := as_text(value)) is not None]

    @cached_property
    def num_distinct(self) -> int:
        return len(set(self.texts))

    @cached_property
    def mean_length(self) -> float:
        return sum(map(len, self.texts)) / max(1, len(self.texts))

    @cached_property
    def is_number(self) -> bool:
        return bool(self.texts) and all(_is_number(text) for text in self.texts[:200])

    @cached_property
    def is_time(self) -> bool:
        return bool(self.texts) and not self.is_number and all(map(_is_time, self.texts[:50]))

    @cached_property
    def is_image(self) -> bool:
        if any(isinstance(value, bytes | dict) for value in self.values[:1]):
            return True
        return self._ends(tuple(PICTURES))

    @cached_property
    def is_audio(self) -> bool:
        return self._ends(SOUND_ENDS)

    @property
    def could_be_label(self) -> bool:
        few = 2 <= self.num_distinct <= max(2, min(1000, len(self.texts) // 2))
        return few and self.mean_length < LABEL_CHARACTERS and not self.is_time

    @property
    def could_be_text(self) -> bool:
        return bool(self.texts) and not (self.is_number or self.is_time or self.is_image)

    def is_named(self, role: str) -> bool:
        return isinstance(self.key, str) and _plain(self.key) in KNOWN[role]

    def _ends(self, ends: tuple[str, ...]) -> bool:
        matching = sum(text.lower().endswith(ends) for text in self.texts)
        return bool(self.texts) and matching > 0.8 * len(self.texts)


@dataclass(frozen=True)
class Sample:
    """The first rows of a table, by column."""

    source: Source
    form: str
    encoding: str
    columns: list[Column]
    has_names: bool

    def told(self) -> str:
        if not self.has_names:
            return f"{len(self.columns)} columns without names"
        return ", ".join(str(column.key) for column in self.columns[:20])


@dataclass(frozen=True)
class Roles:
    """Roles to columns, and what else could be of use."""

    columns: dict[str, str | int]
    others: list[str | int] = field(default_factory=list)
    group: str | int | None = None
    """A column whose records might have to stay together."""
    time: str | int | None = None


def sample_table(source: Source) -> Sample:
    """Reads the first rows; DataError where there are none."""
    about = describe_table(source)
    form, encoding = about["form"], about["encoding"]
    has_names = True
    if form == "parquet":
        names, rows = _parquet_head(source)
    elif form == "jsonl":
        names, rows = _json_head(source, encoding)
    else:
        dialect = dialect_of(source, encoding)
        cells = read_cells(source, encoding, dialect)
        first = next(cells, (0, list[str]()))[1]
        read = [first, *_spread(row for _, row in cells)]
        has_names = bool(first) and _begins_with_names(read, dialect.width)
        names = [name.strip() for name in read[0]] if has_names else []
        width = len(names) or dialect.width
        rows = [row for row in read[int(has_names) :] if len(row) == width]
        names = names or [""] * width
    if not rows:
        raise DataError(f"{source.path}: holds no rows")
    columns = [
        Column(name if has_names else place, [row[place] for row in rows])
        for place, name in enumerate(names)
    ]
    return Sample(source, form, encoding, columns, has_names)


def roles_of(sample: Sample) -> Roles:
    """Guess the columns: by name where one is known, else labels by few values, texts by length."""
    columns = sample.columns
    found: dict[str, str | int] = {}
    content: Column | None = None
    for role, matching in (
        ("image", [c for c in columns if c.is_image]),
        ("audio", [c for c in columns if c.is_audio]),
    ):
        if matching and content is None:
            content, found[role] = matching[0], matching[0].key
    texts = [c for c in columns if c.could_be_text]
    if content is None and not any(c.mean_length > LONG_TEXT for c in texts):
        for role in ("user", "item", "rating"):
            named = [c for c in columns if c.is_named(role)]
            found |= {role: named[0].key} if named else {}
        if {"user", "item"} <= set(found):
            return Roles(found)
        found.clear()
    label = _label(columns, content)
    texts = [c for c in texts if c is not label]
    if content is None and texts:
        named = [c for c in texts if c.is_named("text")] or texts
        content = max(named, key=lambda c: c.mean_length)
        found["text"] = content.key
    if label is not None and content is not None:
        found["label"] = label.key
    others = [c for c in columns if c is not content and c is not label]
    group = next((c.key for c in others if c.is_named("group")), None)
    time = next((c.key for c in others if c.is_named("time") or c.is_time), None)
    return Roles(found, [c.key for c in others], group, time)


def recording_roles(sample: Sample) -> Roles | None:
    """The columns of recordings and of what is said in them; None where names do not tell."""
    audio = next((c for c in sample.columns if c.is_audio), None)
    text = next((c for c in sample.columns if c.is_named("text")), None)
    if audio is None or text is None:
        return None
    others = [c.key for c in sample.columns if c is not audio and c is not text]
    return Roles({"audio": audio.key, "text": text.key}, others)


def _label(columns: Sequence[Column], content: Column | None) -> Column | None:
    able = [c for c in columns if c.could_be_label and c is not content]
    named = [c for c in columns if c.is_named("label") and c is not content and c.num_distinct > 1]
    if named:
        return min(named, key=lambda c: (c not in able, c.num_distinct))
    # The only column of texts is no label, however often they repeat.
    if content is None:
        texts = [c for c in columns if c.could_be_text]
        longest = max(texts, key=lambda c: c.mean_length, default=None)
        able = [c for c in able if c is not longest]
    able = [c for c in able if not (c.is_named("group") or c.is_named("time"))]
    return min(able, key=lambda c: c.num_distinct, default=None)


def _begins_with_names(rows: list[list[str]], width: int) -> bool:
    """Whether the first row names the columns."""
    first, rest = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    cells = [cell.strip() for cell in first]
    if len(first) != width or len(set(cells)) < len(cells) or not all(cells):
        return False
    if any(_is_number(cell) or len(cell) > HEADING_CHARACTERS for cell in cells):
        return False
    if any(_plain(cell) in words for cell in cells for words in KNOWN.values()):
        return True
    columns = [Column(place, [row[place] for row in rest]) for place in range(width)]
    return any(
        column.is_number or (column.could_be_label and cell not in column.texts)
        for cell, column in zip(cells, columns, strict=True)
    )


def _parquet_head(source: Source) -> tuple[list[str], list[list[Any]]]:
    with open_parquet(source) as file:
        names = list(file.schema_arrow.names)
        batches = (batch.to_pylist() for batch in file.iter_batches(PARQUET_ROWS))
        rows = _spread(row for batch in batches for row in batch)
    return names, [[row[name] for name in names] for row in rows]


def _json_head(source: Source, encoding: str) -> tuple[list[str], list[list[Any]]]:
    with open_source(source) as file:
        lines = split_lines(decode(source.path, read_blocks(file), encoding, by_rows=True))
        sampled = _spread(line for line, _ in lines)
    objects = [value for line in sampled if isinstance(value := _parsed(line), dict)]
    names = list(dict.fromkeys(str(name) for value in objects for name in value))
    return names, [[value.get(name) for name in names] for value in objects]


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _spread(items: Iterable[T]) -> list[T]:
    """SAMPLED_ROWS to twice as many of all, evenly: files are often sorted by label."""
    kept: list[T] = []
    every = 1
    for number, item in enumerate(items):
        if number % every == 0:
            kept.append(item)
        if len(kept) > 2 * SAMPLED_ROWS:
            kept, every = kept[::2], every * 2
    return kept


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    try:
        parse_time(text)
    except (ValueError, OverflowError):
        return False
    return True
