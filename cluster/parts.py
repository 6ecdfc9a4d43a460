"""Line files that grow while they are read, on stores that append and on those that cannot.

On a local path every line goes into the file at once. On S3 the lines go into numbered parts
`path.00001`, ...: the first line at once, and then the last part is rewritten every few seconds
until it is large enough, so that a long run leaves few parts. `read_joined` joins them.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from cluster.local_storage import translated
from cluster.storage import Storage, StorageError

PART_BYTES = 1 << 20


class PartWriter:
    """Appends lines to a file of the store; one writer a path, from any thread.

    A store that refuses for a while costs nothing but delay: lines are kept and `error` says why
    until a later attempt succeeds. `flush` and `close` raise StorageError instead.
    """

    def __init__(self, storage: Storage, path: str, interval_s: float = 5.0) -> None:
        self.error: StorageError | None = None
        local = storage.local_path(path)
        self._sink: _Sink = _FileSink(local) if local else _PartSink(storage, path)
        self._eager = local is not None
        self._pending: list[bytes] = []
        self._adding = threading.Lock()
        self._publishing = threading.Lock()
        self._begun, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._publish_often, args=(interval_s,), daemon=True)
        if not self._eager:
            self._thread.start()

    def append(self, line: str) -> None:
        """Adds one line, without its line break; never raises for the store's sake."""
        assert not self._closed.is_set(), "append after close"
        with self._adding:
            self._pending.append(line.rstrip("\n").encode() + b"\n")
        self._begun.set()
        if self._eager:
            self._try_publish()

    def flush(self) -> None:
        """Returns once all lines so far are in the store; StorageError where it refuses."""
        self._try_publish()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Flushes and ends; a second call does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._begun.set()
        if not self._eager:
            self._thread.join()
        try:
            self.flush()
        finally:
            self._sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _publish_often(self, interval_s: float) -> None:
        self._begun.wait()  # somebody may be waiting for the first line
        self._try_publish()
        while not self._closed.wait(interval_s):
            self._try_publish()

    def _try_publish(self) -> None:
        """Lines are added while the store is being written to, so that no step waits for it."""
        with self._publishing:
            with self._adding:
                lines = list(self._pending)
            try:
                if lines:
                    self._sink.write(b"".join(lines))
                self.error = None
            except StorageError as error:
                self.error = error
                return
            with self._adding:
                del self._pending[: len(lines)]


def read_joined(storage: Storage, path: str) -> str:
    """All lines written to `path` so far; empty where there are none yet."""
    folder, _, name = path.rpartition("/")
    pattern = re.compile(re.escape(name) + r"(\.\d{5,})?")
    start = len(folder) + 1 if folder else 0
    paths = [e.path for e in storage.list(folder) if pattern.fullmatch(e.path[start:])]
    return b"".join(storage.read(p) for p in sorted(paths, key=_part_number)).decode(
        errors="replace"
    )


class _Sink(Protocol):
    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class _FileSink:
    """Appends to a local file; what a full disk let through of a write is not written twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._done = 0

    def write(self, data: bytes) -> None:
        with translated(self._path):
            if self._descriptor is None:
                self._descriptor = self._open()
            while self._done < len(data):
                self._done += os.write(self._descriptor, data[self._done :])
            self._done = 0

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        size = os.fstat(descriptor).st_size
        # A writer killed in mid-line must not swallow the first line of its successor.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
        return descriptor


class _PartSink:
    """Rewrites the last part as it grows; parts of earlier writers are never touched."""

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage = storage
        self._path = path
        self._number = 0
        self._content = b""

    def write(self, data: bytes) -> None:
        if self._number and len(self._content) + len(data) <= PART_BYTES:
            self._storage.write(self._part(), self._content + data)
            self._content += data
            return
        number = self._number
        self._number += 1
        try:
            while not self._storage.create(self._part(), data):
                self._number += 1
        except StorageError:
            self._number = number
            raise
        self._content = data

    def close(self) -> None:
        self._content = b""

    def _part(self) -> str:
        return f"{self._path}.{self._number:05d}"


def _part_number(path: str) -> int:
    suffix = path.rpartition(".")[2]
    return int(suffix) if suffix.isdigit() else 0
