"""A store on a local path, safe among the processes of one machine (and over NFS with locks).

Files are written beside the tree in `.tmp` and moved into place: `rename` replaces, `link` creates
only where nothing is. Compare-and-swap holds an flock on one of a few lock files in `.locks`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cluster.storage import (
    CHUNK_BYTES,
    Entry,
    MissingError,
    Names,
    Storage,
    StorageError,
    UnavailableError,
    checked,
)

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCRATCH = ".tmp"
LOCKS = ".locks"
STALE_S = 24 * 3600.0
CAUSES = {
    errno.ENOSPC: ("the disk is full", "free some space and run again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run again"),
    errno.EACCES: ("permission denied", "give yourself access or choose another cluster.storage"),
    errno.EPERM: ("permission denied", "give yourself access or choose another cluster.storage"),
    errno.EROFS: ("the file system is read-only", "choose another cluster.storage"),
    errno.ENOTDIR: ("a file is where a folder should be", "choose another cluster.storage"),
    errno.EISDIR: ("a folder is where a file should be", "remove it or choose another name"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter name"),
    errno.EIO: ("the disk reports an error", "check the disk"),
    errno.ESTALE: ("the network mount is gone", "mount it again"),
}
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def local_error(error: OSError, path: Path | str) -> StorageError:
    """The operating system's error as one line with the cause and the next step."""
    if error.errno == errno.ENOENT:
        return MissingError(f"{path} does not exist")
    cause, remedy = CAUSES.get(
        error.errno or 0, (error.strerror or str(error), "check the path cluster.storage")
    )
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ESTALE)
    kind = UnavailableError if full else StorageError
    return kind(f"{path}: {cause}; {remedy}")


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns OSError inside the block into StorageError about `path`."""
    try:
        yield
    except OSError as error:
        raise local_error(error, path) from None


class LocalStorage(Storage):
    """Everything of one project below one local folder, which the first write makes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.root)!r})"

    def read(self, path: str) -> bytes:
        with translated(self._at(path)):
            return self._at(path).read_bytes()

    def read_tagged(self, path: str) -> tuple[bytes, str]:
        data = self.read(path)
        return data, hashlib.sha256(data).hexdigest()

    def write(self, path: str, data: bytes) -> None:
        with translated(self._at(path)), self._scratch() as (temporary, file):
            file.write(data)
            _settle(file)
            _move(temporary, self._at(path))

    def create(self, path: str, data: bytes) -> bool:
        target = self._at(path)
        with translated(target), self._scratch() as (temporary, file):
            file.write(data)
            _settle(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return self._create_locked(temporary, target)
            _sync_folder(target.parent)
            return True

    def swap(self, path: str, data: bytes, tag: str) -> bool:
        with translated(self._at(path)), self._lock(path):
            try:
                current = self.read_tagged(path)[1]
            except MissingError:
                return False
            if current != tag:
                return False
            self.write(path, data)
            return True

    def exists(self, path: str) -> bool:
        with translated(self._at(path)):
            return self._at(path).is_file()

    def age(self, path: str) -> float:
        with translated(self._at(path)):
            return max(0.0, time.time() - self._at(path).stat().st_mtime)

    def list(self, prefix: str = "") -> list[Entry]:
        self._refuse_file(prefix)
        entries = []
        for folder, names, files in os.walk(self._at(prefix), onerror=self._walk_error):
            names[:] = [name for name in names if name not in (SCRATCH, LOCKS)]
            for name in files:
                entries.append(self._entry(Path(folder) / name))
        return sorted((e for e in entries if e is not None), key=lambda entry: entry.path)

    def folders(self, prefix: str = "") -> Names:
        self._refuse_file(prefix)
        folder = self._at(prefix)
        with translated(folder):
            try:
                found = [f.name for f in os.scandir(folder) if f.is_dir()]
            except FileNotFoundError:
                return []
        return sorted(name for name in found if name not in (SCRATCH, LOCKS))

    def delete(self, path: str) -> None:
        with translated(self._at(path)):
            self._at(path).unlink(missing_ok=True)

    def delete_tree(self, prefix: str) -> None:
        assert checked(prefix), "refusing to delete the whole storage"
        with translated(self._at(prefix)):
            doomed = self._scratch_path()
            try:
                self._at(prefix).rename(doomed)
            except FileNotFoundError:
                return
            shutil.rmtree(doomed)

    def upload(self, local: Path, path: str) -> str:
        with translated(local), local.open("rb") as source:
            with translated(self._at(path)), self._scratch() as (temporary, file):
                digest = _copy(source, file)
                _settle(file)
                _move(temporary, self._at(path))
            return digest

    def download(self, path: str, local: Path) -> str:
        temporary = local.with_name(f".{local.name}.{uuid.uuid4().hex}")
        with translated(self._at(path)), self._at(path).open("rb") as source:
            try:
                with translated(local):
                    local.parent.mkdir(parents=True, exist_ok=True)
                    with temporary.open("wb") as file:
                        digest = _copy(source, file)
                    temporary.replace(local)
            finally:
                temporary.unlink(missing_ok=True)
            return digest

    def url(self, path: str = "") -> str:
        return str(self._at(path))

    def local_path(self, path: str = "") -> Path | None:
        return self._at(path)

    def filesystem(self) -> FileSystem:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem()

    def bulk_path(self, path: str) -> str:
        return str(self._at(path))

    def check(self) -> None:
        probe = f".check-{uuid.uuid4().hex}"
        try:
            if not self.create(probe, b"1") or self.create(probe, b"2"):
                raise StorageError(f"{self.root}: files cannot be created one by one here")
        finally:
            self.delete(probe)
        with translated(self.root):
            for left in (self.root / SCRATCH).iterdir():
                if time.time() - left.stat().st_mtime > STALE_S and left.is_file():
                    left.unlink(missing_ok=True)

    def _at(self, path: str) -> Path:
        return self.root / checked(path)

    def _scratch_path(self) -> Path:
        folder = self.root / SCRATCH
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[tuple[Path, BinaryIO]]:
        temporary = self._scratch_path()
        try:
            with temporary.open("xb") as file:
                yield temporary, file
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self, path: str) -> Iterator[None]:
        """One of 256 lock files, so that they stay few; waiting for a stranger's is harmless."""
        folder = self.root / LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(path.encode()).hexdigest()[:2]
        with (folder / name).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _create_locked(self, temporary: Path, target: Path) -> bool:
        """For file systems without hard links: all creators take the same lock."""
        with self._lock(str(target)):
            if target.exists():
                return False
            _move(temporary, target)
            return True

    def _entry(self, file: Path) -> Entry | None:
        try:
            found = file.stat()
        except FileNotFoundError:
            return None
        return Entry(file.relative_to(self.root).as_posix(), found.st_size, found.st_mtime)

    def _refuse_file(self, prefix: str) -> None:
        for folder in (self.root, self._at(prefix)):
            if folder.is_file():
                raise local_error(OSError(errno.ENOTDIR, ""), folder)

    def _walk_error(self, error: OSError) -> None:
        if error.errno != errno.ENOENT:
            raise local_error(error, error.filename or self.root)


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _settle(file: BinaryIO) -> None:
    """On the disk before it is moved into place: a name must never survive without its bytes."""
    file.flush()
    os.fsync(file.fileno())


def _move(temporary: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
