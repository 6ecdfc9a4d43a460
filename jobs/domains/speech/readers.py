"""Recordings and what is said in them, from folders, zips, tables, parquet, and espeak-ng."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from jobs.domains.albums import Album, open_album, suffix_of
from jobs.domains.encodings import decode, read_blocks, resolve
from jobs.domains.files import DataError, Source, open_source
from jobs.domains.records.delimited import split_lines
from jobs.domains.records.record import Bad, Record
from jobs.domains.records.tables import Row, read_table
from jobs.domains.speech import espeak, sounds

SUFFIXES = sounds.SUFFIXES | {".zip", ".parquet"}
LJSPEECH = "metadata.csv"
LJSPEECH_CELLS = (2, 3)
Columns = Mapping[str, str | int]


@dataclass(frozen=True)
class Wanted:
    """What is read of the records of a source."""

    columns: Columns
    """Roles to columns of tables: audio, text, speaker where there is one, group, time."""
    encoding: str
    start: int = 0
    stop: int | None = None
    has_sound: bool = True
    """Whether recordings are read too; without them only texts."""


def read_recordings(source: Source, wanted: Wanted) -> Iterator[Record | Bad]:
    """Records start <= i < stop of a source in fixed order, recordings not decoded yet.

    Their `extra` holds "text" and, where the data names one, "speaker".
    """
    if source.is_builtin:
        yield from _spoken(source, wanted)
    elif source.suffix == ".zip":
        with open_album(source) as album:
            yield from _of_album(album, wanted)
    elif source.suffix == ".parquet":
        yield from _of_parquet(source, wanted)
    else:
        raise DataError(
            f"{source.path}: is none of the formats of recordings; give a folder in LJSpeech's "
            "layout, a CSV of paths and texts, a folder with a sub-folder for each word, a zip of "
            "one of these, or parquet"
        )


def _of_album(album: Album, wanted: Wanted) -> Iterator[Record | Bad]:
    tables = album.tables()
    names = [name for name in album.names if suffix_of(name) in sounds.SUFFIXES]
    if not tables and not names:
        known = ", ".join(sorted(sounds.SUFFIXES))
        raise DataError(f"{album.path}: holds no recording; known are {known}")
    found = (entry for name in tables for entry in _rows_of(album, name, wanted))
    if not tables:
        found = (_labelled(name) for name in names)
    finder = _Finder(album.names)
    for entry in islice(found, wanted.start, wanted.stop):
        yield entry if isinstance(entry, Bad) else _entry(album, finder, entry, wanted)


def _rows_of(album: Album, table: str, wanted: Wanted) -> Iterator[Record | Bad]:
    """Rows of a table; `content` is the recording's name."""
    place = album.path if album.path.endswith(table) else f"{album.path}/{table}"
    inside = Source(place, content=album.read(table, sounds.MAX_BYTES))
    if PurePosixPath(table).name == LJSPEECH and _is_ljspeech(inside, wanted.encoding):
        yield from _of_ljspeech(inside, str(PurePosixPath(table).parent), wanted.encoding)
        return
    top = str(PurePosixPath(table).parent)
    for row in read_table(inside, wanted.columns, wanted.encoding):
        if isinstance(row, Bad):
            yield row
        else:
            name = row.cells["audio"].strip().replace("\\", "/")
            yield _record(row, f"{top}/{name}")


def _lines(source: Source, encoding: str) -> Iterator[str]:
    known = resolve(source, encoding)
    with open_source(source) as file:
        for line, _ in split_lines(decode(source.path, read_blocks(file), known)):
            yield line


def _is_ljspeech(source: Source, encoding: str) -> bool:
    """Whether a table has no line of names and divides its cells by |."""
    first = next((line for line in _lines(source, encoding) if line), "").split("|")
    return len(first) in LJSPEECH_CELLS and "text" not in first


def _of_ljspeech(source: Source, top: str, encoding: str) -> Iterator[Record | Bad]:
    """id|text|normalised text, with wavs/id.wav; quotes are part of the text."""
    for number, line in enumerate(_lines(source, encoding), 1):
        place = f"{source.path}:{number}"
        cells = line.split("|")
        if len(cells) not in LJSPEECH_CELLS:
            yield Bad(f"{len(cells)} columns, not 3", place)
        else:
            extra = {"text": cells[-1].strip() or cells[1]}
            yield Record(f"{top}/wavs/{cells[0].strip()}.wav", place=place, extra=extra)


def _labelled(name: str) -> Record | Bad:
    """A recording in a folder that is named as what is said."""
    label = PurePosixPath(name).parent.name
    if not label:
        return Bad("in no folder that names what is said", name)
    return Record(name, place=name, extra={"text": label.replace("_", " ")})


class _Finder:
    """Recordings of an album by the paths that tables name them by."""

    def __init__(self, names: list[str]) -> None:
        self.names = set(names)
        self.by_end: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self.by_end[PurePosixPath(name).name].append(name)

    def find(self, path: str) -> str | None:
        """By its path, with or without its suffix; else by its name where that is the only one."""
        plain = str(PurePosixPath(path.removeprefix("./")))
        for name in (plain, *(plain + suffix for suffix in sorted(sounds.SUFFIXES))):
            if name in self.names:
                return name
        for name in (plain, *(plain + suffix for suffix in sorted(sounds.SUFFIXES))):
            alike = self.by_end.get(PurePosixPath(name).name, [])
            if len(alike) == 1 and suffix_of(alike[0]) in sounds.SUFFIXES:
                return alike[0]
        return None


def _entry(album: Album, finder: _Finder, record: Record, wanted: Wanted) -> Record | Bad:
    """The record with its recording's bytes in place of its name."""
    assert isinstance(record.content, str)
    name = finder.find(record.content)
    if name is None:
        return Bad(f"no such file: {PurePosixPath(record.content).name}", record.place)
    if not wanted.has_sound:
        return replace(record, content=b"")
    if album.size(name) > sounds.MAX_BYTES:
        return Bad(f"more than {sounds.MAX_BYTES >> 20} MiB", record.place)
    try:
        content = album.read(name, sounds.MAX_BYTES + 1)
    except DataError:
        raise
    except Exception as error:  # zlib and zipfile have errors of their own for broken entries
        return Bad(f"cannot be unpacked: {error}", record.place)
    return replace(record, content=content)


def _record(row: Row, content: str | bytes) -> Record:
    cells = row.cells
    extra: dict[str, str] = {role: cells[role] for role in ("text", "speaker") if role in cells}
    return Record(content, None, cells.get("group"), cells.get("time"), row.place, extra)


def _of_parquet(source: Source, wanted: Wanted) -> Iterator[Record | Bad]:
    """Bytes, or as Hugging Face writes them: {"bytes", "path"}."""
    rows = read_table(source, wanted.columns, "auto", wanted.start, wanted.stop, raw=("audio",))
    for row in rows:
        if isinstance(row, Bad):
            yield row
            continue
        audio: Any = row.cells["audio"]
        content = audio.get("bytes") if isinstance(audio, dict) else audio
        if not isinstance(content, bytes):
            yield Bad("holds no bytes of a recording", row.place)
        else:
            yield _record(row, content)


def _spoken(source: Source, wanted: Wanted) -> Iterator[Record]:
    name = source.path.partition(":")[2]
    if name != espeak.NAME:
        raise DataError(f"{source.path}: is not built in; there is builtin:{espeak.NAME}")
    every = islice(enumerate(espeak.spoken(), 1), wanted.start, wanted.stop)
    for number, (word, voice, samples, rate) in every:
        content = sounds.encode_wav(samples, rate) if wanted.has_sound else b""
        extra = {"text": word, "speaker": voice}
        yield Record(content, None, voice, None, f"{source.path}:{number}", extra)
