"""Everything a driver prints, kept in storage beside its run: logs outlive the cluster."""

from __future__ import annotations

import os
import sys
import threading
from typing import Self

from cluster.parts import PartWriter
from cluster.storage import Storage, StorageError


class Logbook:
    """Copies this process's standard output and error, its children's included.

    Lines wait in memory until :meth:`keep` says where they belong.
    """

    def __init__(self) -> None:
        self._parts: PartWriter | None = None
        self._waiting: list[str] = []
        self._lock = threading.Lock()
        self._kept: list[int] = []

    def keep(self, storage: Storage, path: str) -> None:
        """Write all lines, those of before too, to ``path``; only the first call counts."""
        with self._lock:
            if self._parts is None:
                self._parts = PartWriter(storage, path)
                for line in self._waiting:
                    self._parts.append(line)
                self._waiting.clear()

    def _append(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        with self._lock:
            if self._parts is None:
                self._waiting.append(text)
            else:
                self._parts.append(text)

    def __enter__(self) -> Self:
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._kept = [os.dup(1), os.dup(2)]
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(writing)
        self._copier = threading.Thread(target=self._copy, args=(reading,), daemon=True)
        self._copier.start()
        return self

    def _copy(self, reading: int) -> None:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            rest = b""
            while chunk := pipe.read(65536):
                os.write(self._kept[0], chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._append(line)
            if rest:
                self._append(rest)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(self._kept[0], 1)  # closes the pipe's last writing ends, so that the copier ends
        os.dup2(self._kept[1], 2)
        self._copier.join(timeout=10)
        try:
            if self._parts is not None:
                self._parts.close()
        except StorageError as error:  # must not hide why the work itself ended
            print(f"warning: the end of the log was not kept: {error}", file=sys.stderr)
