"""The disk of a worker's node, where checkpoints are written and read before they travel.

Where storage is a local path, files are written in place: what counts is the manifest, which comes
last. Else they lie in the cache folder until they are uploaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster.local_storage import translated
from cluster.storage import DamagedError, Storage, sha256_file
from jobs.rows import cache_folder
from jobs.runs import Checkpoint, Run


class Workplace:
    """One worker's folder for the checkpoints of one attempt; what older ones left is removed."""

    def __init__(self, run: Run, attempt: int, rank: int) -> None:
        self.storage: Storage = run.storage
        place = hashlib.sha256(run.storage.url(run.path).encode()).hexdigest()[:16]
        self._root = cache_folder() / "checkpoints" / place
        self._own = self._root / f"{attempt}-{rank}"
        for left in self._root.glob(f"*-{rank}"):
            if int(left.name.partition("-")[0]) < attempt:
                shutil.rmtree(left, ignore_errors=True)

    def outgoing(self, path: str) -> Path:
        """The folder to write a checkpoint's files to."""
        folder = self.storage.local_path(path) or self._own / Path(path).name
        with translated(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def deliver(self, folder: Path, path: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Bring this worker's files of a checkpoint to storage: {name: {"sha256", "size"}}."""
        files = {}
        for name in names:
            file = folder / name
            if not file.exists():
                continue
            with translated(file):
                size = file.stat().st_size
                in_place = self.storage.local_path(path) is not None
                digest = _settled(file) if in_place else ""
            files[name] = {
                "sha256": digest or self.storage.upload(file, f"{path}/{name}"),
                "size": size,
            }
        if self.storage.local_path(path) is None:
            shutil.rmtree(folder, ignore_errors=True)
        return files

    @contextlib.contextmanager
    def incoming(self, checkpoint: Checkpoint) -> Iterator[StateFiles]:
        """The files of a checkpoint, to be brought here one by one."""
        direct = self.storage.local_path(checkpoint.path)
        if direct is not None:
            yield StateFiles(self.storage, checkpoint, direct)
            return
        with translated(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(dir=self._root, prefix="incoming-")
        try:
            yield StateFiles(self.storage, checkpoint, Path(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class StateFiles:
    """A checkpoint's files: ``names``, and each of them on this node once its digest is right."""

    def __init__(self, storage: Storage, checkpoint: Checkpoint, folder: Path) -> None:
        self.storage, self.checkpoint, self.folder = storage, checkpoint, folder
        self.names = sorted(checkpoint.manifest["files"])

    def fetch(self, name: str) -> Path:
        """The file on this node; raises StorageError where it is gone or not what was saved."""
        path, file = f"{self.checkpoint.path}/{name}", self.folder / name
        if self.storage.local_path(path) is None:
            digest = self.storage.download(path, file)
        else:
            with translated(file):
                digest = sha256_file(file)
        if digest != self.checkpoint.manifest["files"][name]["sha256"]:
            raise DamagedError(f"{self.storage.url(path)} is not what was saved")
        return file


def _settled(file: Path) -> str:
    """The digest of a file that is on the disk: a name must never survive without its bytes."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    return sha256_file(file)
