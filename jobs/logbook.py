"""Everything a driver prints, kept in storage beside its run: logs outlive the cluster."""

from __future__ import annotations

import os
import sys
import threading
from typing import Self

from cluster.parts import PartWriter
from cluster.storage import Storage, StorageError


class Logbook:
    """Copies this process's standard output and error, its children's included, into storage."""

    def __init__(self, storage: Storage, path: str) -> None:
        self._parts = PartWriter(storage, path)
        self._kept: list[int] = []

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
                    self._parts.append(line.decode(errors="replace"))
            if rest:
                self._parts.append(rest.decode(errors="replace"))

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(self._kept[0], 1)  # closes the pipe's last writing ends, so that the copier ends
        os.dup2(self._kept[1], 2)
        self._copier.join(timeout=10)
        try:
            self._parts.close()
        except StorageError as error:  # must not hide why the work itself ended
            print(f"warning: the end of the log was not kept: {error}", file=sys.stderr)
