"""Many small files as one source: a folder of pictures or sounds, or a table beside them.

An album is treated as the zip that it would be: its digest is that zip's, it is read as a zip is,
and it travels to remote storage as that zip, so that the names of its files (and with them the
classes) survive and 100,000 pictures are one upload and one inspection.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from jobs.domains import files
from jobs.domains.files import BUILTIN, GLOB, DataError, Source, explain, is_upload, open_raw

if TYPE_CHECKING:
    from cluster.storage import Storage

TABLES = frozenset({".csv", ".tsv", ".jsonl"})
PICTURES = frozenset(
    {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
GROUPED = PICTURES | {".wav", ".flac", ".mp3", ".ogg"}
"""Of these a folder holds many: together, with the tables about them, they are one source."""
WINDOWS_DRIVE = 2
"""Length of "C:"."""


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, content: bytes, /) -> int: ...


@dataclass(frozen=True)
class Album:
    """The files of an album by their names, sorted; `read` gives up to `limit` bytes of one."""

    path: str
    names: list[str]
    read: Callable[[str, int], bytes]
    size: Callable[[str], int]

    def tables(self) -> list[str]:
        """The tables that stand above, or beside, all other files."""
        found = [name for name in self.names if suffix_of(name) in TABLES]
        tops = [PurePosixPath(name).parent for name in found]
        return [
            name
            for name, top in zip(found, tops, strict=True)
            if all(PurePosixPath(other).is_relative_to(top) for other in self.names)
        ]


def find_sources(
    paths: Sequence[str], suffixes: frozenset[str], part: str = "", store: Storage | None = None
) -> list[Source]:
    """As `jobs.domains.files.find_sources`, with albums in place of files that belong together."""
    if not suffixes & GROUPED:
        return files.find_sources(paths, suffixes, part, store)
    found: list[Source] = []
    for path in paths:
        for source in _grouped(path, files.find_sources([path], suffixes | TABLES, part, store)):
            is_known = any(source.path == other.path for other in found)
            if not is_known or is_upload(source.path, store):
                found.append(source)
    if not found:
        raise DataError("data.source names no file")
    return found


def digest_of(source: Source) -> str:
    """SHA-256 in hex of a file's bytes as they are stored; of an album, of the zip it would be."""
    if not source.is_album:
        return files.digest_of(source)
    sink = _Digest()
    write_zip(source, sink)
    return sink.sha256.hexdigest()


@contextmanager
def open_album(source: Source) -> Iterator[Album]:
    """The files of a folder, or of a zip; DataError where the zip is broken or would escape."""
    if source.is_album:
        yield _album_of_files(source)
        return
    with open_raw(source) as raw:
        try:
            with zipfile.ZipFile(raw) as archive:
                yield _album_of_zip(source, archive)
        except zipfile.BadZipFile as error:
            raise DataError(f"{source.path}: is no complete zip ({error}); copy it again") from None


def write_zip(source: Source, file: Sink) -> None:
    """The album as a zip, the same bytes wherever and whenever it is written."""
    with zipfile.ZipFile(_Forward(file), "w") as archive:
        for name, member in _members(source):
            with open_raw(member) as raw:
                archive.writestr(zipfile.ZipInfo(name), raw.read())


def suffix_of(name: str) -> str:
    """In lower case."""
    return PurePosixPath(name.lower()).suffix


def _album_of_files(source: Source) -> Album:
    files: Mapping[str, Source] = dict(_members(source))

    def read(name: str, limit: int) -> bytes:
        try:
            with open_raw(files[name]) as raw:
                return raw.read(limit)
        except OSError as error:
            raise explain(files[name].path, error) from error

    return Album(source.path, list(files), read, lambda name: files[name].size)


def _album_of_zip(source: Source, archive: zipfile.ZipFile) -> Album:
    infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    for name in infos:
        _check_name(name, source.path)

    def read(name: str, limit: int) -> bytes:
        with archive.open(infos[name]) as entry:
            return entry.read(limit)

    names = sorted(name for name in infos if not _is_hidden(name))
    return Album(source.path, names, read, lambda name: infos[name].file_size)


def _check_name(name: str, path: str) -> None:
    """Nothing is unpacked to disk, yet who makes such a name means no good."""
    parts = name.replace("\\", "/").split("/")
    is_drive = len(parts[0]) == WINDOWS_DRIVE and parts[0].endswith(":")
    if ".." in parts or not parts[0] or is_drive:
        kind = 'leads out of the archive with ".."' if ".." in parts else "is an absolute path"
        raise DataError(f'{path}: its entry "{name}" {kind}; pack the folder anew')


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _grouped(path: str, found: list[Source]) -> list[Source]:
    """The same files with an album in place of those that belong together."""
    together = _together(path, found)
    if not together:
        return [source for source in found if source.suffix not in TABLES or source.named]
    state = [[source.path, source.size, source.modified_ns] for source in together]
    is_remote = "://" in path or path.startswith(BUILTIN)
    album = Source(
        path.rstrip("/") if is_remote else os.path.abspath(path),
        found[0].part,
        named=True,
        size=sum(source.size for source in together),
        modified_ns=max(source.modified_ns for source in together),
        identity=hashlib.sha256(json.dumps(state).encode()).hexdigest(),
        store=found[0].store,
        is_album=True,
    )
    return [album, *(source for source in found if source not in together)]


def _together(path: str, found: list[Source]) -> list[Source]:
    """Those of the files behind a path that make an album: of a table, those below its folder."""
    if is_upload(path, found[0].store):
        return []
    if len(found) == 1 and found[0].named and found[0].suffix in TABLES:
        folder = found[0].path.rpartition("/")[0]
        try:
            return found + files.find_sources([folder], GROUPED, store=found[0].store)
        except DataError:  # there is none: the table's reader says so of each row
            return found
    if any(source.suffix in GROUPED for source in found):
        return [source for source in found if source.suffix in GROUPED | TABLES]
    return []


@lru_cache(maxsize=4)
def _members(source: Source) -> tuple[tuple[str, Source], ...]:
    """The files with their names in the album: those of a folder begin with the folder's own."""
    found = files.find_sources([source.path], GROUPED | TABLES, store=source.store)
    top = source.path
    if GLOB & set(top) and not os.path.exists(top):
        top = top[: min(top.find(mark) for mark in GLOB if mark in top)].rpartition("/")[0]
    cut = len(top.rpartition("/")[0]) + 1
    together = _together(source.path, found)
    return tuple(sorted((member.path[cut:], member) for member in together))


class _Forward(io.RawIOBase):
    """Writes forward only, so that zipfile never goes back to fill in a size."""

    def __init__(self, file: Sink) -> None:
        self.file = file

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self.file.write(content)
        return len(content)


class _Digest:
    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        return len(content)
