"""The files behind `data.source`: paths, folders, globs and URIs, found in one fixed order."""

from __future__ import annotations

import fnmatch
import glob
import gzip
import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from pyarrow import fs

if TYPE_CHECKING:
    from cluster.storage import Storage

BUILTIN = "builtin:"
GLOB = frozenset("*?[")
UPLOADS = "uploads"
LISTING = re.compile(UPLOADS + r"/lists/[0-9a-f]{64}\.json")
"""A folder's files that `jobs.uploads` took to storage: {"files": [{"path", "size"}]}, in order."""


class DataError(ValueError):
    """Something about the user's data; the text names the file and the next step."""

    exit_code = 2


@dataclass(frozen=True)
class Source:
    """One file, or one built-in corpus, with what tells whether it has changed."""

    path: str
    """Absolute local path, URI, or "builtin:NAME"."""
    part: str = ""
    """The split that it was given for; "" where the spec's shares decide."""
    named: bool = True
    """Asked for by its own name, not found in a folder or by a glob."""
    size: int = 0
    modified_ns: int = 0
    identity: str = ""
    """What changes when a file is replaced under its old size and time of modification."""
    store: Storage | None = None
    """The project's store, where the file is reached with its endpoint and credentials."""
    is_album: bool = False
    """Many files under one path, see `jobs.domains.albums`."""
    content: bytes | None = None
    """What is read in place of the file, such as an archive's entry."""

    @property
    def is_builtin(self) -> bool:
        return self.path.startswith(BUILTIN)

    @property
    def suffix(self) -> str:
        """In lower case, without ".gz"; ".zip" of an album, "-ubyte" of MNIST's files."""
        name = self.path.lower().removesuffix(".gz")
        if self.is_album or name.endswith("-ubyte"):
            return ".zip" if self.is_album else "-ubyte"
        return Path(name).suffix

    @property
    def is_packed(self) -> bool:
        return self.path.lower().endswith(".gz") and self.content is None


def find_sources(
    paths: Sequence[str], suffixes: frozenset[str], part: str = "", store: Storage | None = None
) -> list[Source]:
    """All files behind the paths: in the order given, folders and globs sorted by name.

    Folders give files with `suffixes` (".gz" of these too) at any depth, none that is hidden.
    URIs in the bucket of `store` are reached as the store is; all others with what the
    environment holds. Raises DataError where a path is missing, unreadable, or leads to no file.
    """
    found: list[Source] = []
    seen: set[str] = set()
    for path in paths:
        for source in _find(path, suffixes, part, store):
            # Equal files share one upload, and were two files where they came from.
            if source.path not in seen or is_upload(source.path, store):
                found.append(source)
            seen.add(source.path)
    if not found:
        raise DataError("data.source names no file")
    return found


@contextmanager
def open_source(source: Source) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked where it is gzip; `explain` says what reading them raises."""
    with _open(source) as raw:
        if source.is_packed:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast(IO[bytes], unpacked)
        else:
            yield raw


def open_raw(source: Source) -> IO[bytes]:
    """The file's bytes as they are stored; seekable."""
    return _open(source)


def digest_of(source: Source) -> str:
    """SHA-256 in hex of the file's bytes as they are stored."""
    digest = hashlib.sha256()
    try:
        with _open(source) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise explain(source.path, error) from error
    return digest.hexdigest()


def explain(path: str, error: Exception) -> DataError:
    """A user's message for what reading a file raised."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file; check data.source")
    if isinstance(error, PermissionError):
        return DataError(f"{path}: may not be read by this user; check its permissions (chmod +r)")
    if isinstance(error, EOFError):
        return DataError(f"{path}: the gzip file is cut off; copy or download it again")
    if isinstance(error, gzip.BadGzipFile):
        return DataError(f"{path}: is not gzip inside; rename it without .gz or copy it again")
    return DataError(f"{path}: cannot be read: {error}")


def _find(path: str, suffixes: frozenset[str], part: str, store: Storage | None) -> list[Source]:
    if path.startswith(BUILTIN):
        return [Source(path, part)]
    if store is not None and is_upload(path, store):
        return _find_uploads(path, part, store)
    if "://" in path:
        return _find_remote(path, suffixes, part, store)
    if GLOB & set(path) and not os.path.exists(path):
        names = sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name))
        if not names:
            raise DataError(f"{path}: no file matches; check data.source")
        return [_local(name, part, named=False) for name in names]
    if os.path.isdir(path):
        names = [str(name) for name in sorted(Path(path).rglob("*")) if name.is_file()]
        return [_local(name, part, named=False) for name in _wanted(path, names, suffixes)]
    return [_local(path, part, named=True)]


def _local(path: str, part: str, named: bool) -> Source:
    path = os.path.abspath(path)
    try:
        state = os.stat(path)
    except OSError as error:
        raise explain(path, error) from error
    if not os.access(path, os.R_OK):
        raise explain(path, PermissionError())
    return Source(path, part, named, state.st_size, state.st_mtime_ns)


def _wanted(folder: str, names: list[str], suffixes: frozenset[str]) -> list[str]:
    below = {name: name[len(folder) :].strip("/") for name in names}
    seen = [n for n in names if not any(p.startswith(".") for p in below[n].split("/"))]
    kept = [n for n in seen if Source(n).suffix in suffixes]
    if not kept:
        others = sorted({Path(name).suffix or Path(name).name for name in seen})[:8]
        raise DataError(
            f"{folder}: holds none of {', '.join(sorted(suffixes))}"
            + (f" (only {', '.join(others)})" if others else " (it is empty)")
            + "; name the files or a glob in data.source"
        )
    return kept


def is_upload(uri: str, store: Storage | None) -> bool:
    return store is not None and "://" in uri and uri.startswith(store.url(UPLOADS) + "/")


def _find_uploads(uri: str, part: str, store: Storage) -> list[Source]:
    """What `jobs.uploads` put there: one file by its digest, or a list of such."""
    path = uri.removeprefix(store.url("")).lstrip("/")
    if LISTING.fullmatch(path):
        files = store.read_json(path)["files"]
        return [Source(store.url(f["path"]), part, False, f["size"], store=store) for f in files]
    sizes = {entry.path: entry.size for entry in store.list(path.rpartition("/")[0])}
    if path not in sizes:
        raise DataError(f"{uri}: is gone from storage; run again where the data is")
    return [Source(uri, part, True, sizes[path], store=store)]


def _reaches(store: Storage | None, uri: str) -> bool:
    """Whether the store's own endpoint and credentials are those for this URI: same bucket."""
    if store is None or "://" not in store.url():
        return False
    return store.url().split("/")[:3] == uri.split("/")[:3]


def _system(uri: str, store: Storage | None) -> tuple[fs.FileSystem, str]:
    """pyarrow's file system for a URI, and the path inside it."""
    if store is not None and _reaches(store, uri):
        return store.filesystem(), uri.partition("://")[2]
    system, path = fs.FileSystem.from_uri(uri)
    return system, path


def _find_remote(
    uri: str, suffixes: frozenset[str], part: str, store: Storage | None
) -> list[Source]:
    scheme = uri.split("://")[0]
    store = store if _reaches(store, uri) else None
    fixed = uri
    while GLOB & set(fixed):
        fixed = fixed.rpartition("/")[0]
    try:
        system, path = _system(fixed, store)
        info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise DataError(f"{uri}: nothing is there; check data.source")
        infos = [info]
        if info.type == fs.FileType.Directory:
            infos = system.get_file_info(fs.FileSelector(path, recursive=True))
    except (OSError, ValueError) as error:
        raise explain(uri, error) if isinstance(error, OSError) else error from error
    files = {f"{scheme}://{i.path}": i for i in infos if i.type == fs.FileType.File}
    if fixed != uri:
        names = sorted(name for name in files if fnmatch.fnmatch(name, uri))
    else:
        names = sorted(files) if list(files) == [uri] else _wanted(uri, sorted(files), suffixes)
    if not names:
        raise DataError(f"{uri}: no file matches; check data.source")
    return [_remote(name, part, name == uri, files[name], store) for name in names]


def _remote(uri: str, part: str, named: bool, info: Any, store: Storage | None) -> Source:
    return Source(uri, part, named, int(info.size or 0), int(info.mtime_ns or 0), store=store)


def _open(source: Source) -> IO[bytes]:
    if source.content is not None:
        return io.BytesIO(source.content)
    try:
        if "://" not in source.path:
            return open(source.path, "rb")
        system, inside = _system(source.path, source.store)
        opened: IO[bytes] = system.open_input_file(inside)
        return opened
    except OSError as error:
        raise explain(source.path, error) from error
