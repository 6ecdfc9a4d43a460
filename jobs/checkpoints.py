"""Checkpoints of a run in storage: a folder counts once its manifest is there.

Storage is the one owner of a run's state. Neither Ray Train's controller nor DeepSpeed's ``latest``
file is asked where a run stands.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch.distributed

from cluster.local_storage import translated
from cluster.storage import DamagedError, Storage, StorageError, UnavailableError, sha256_file
from jobs.agreement import AgreedError, at_rank_0, together
from jobs.engine import Engine
from jobs.runs import Checkpoint, Run, checkpoints
from jobs.session import say

MANIFEST = "manifest.json"
RETRIES_S = (1, 2, 4, 8, 16, 32)
"""Waits for a store that does not answer, before a run that stands ready to save is ended."""


class Checkpoints:
    """Save, find, load and prune the checkpoints of one attempt; every verb is collective."""

    def __init__(self, run: Run, attempt: int, keep: int, higher_is_better: bool) -> None:
        self.run, self.attempt, self.keep = run, attempt, keep
        self.higher_is_better = higher_is_better
        self.storage: Storage = run.storage
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()

    def save(self, engine: Engine, step: int, state: dict[str, Any]) -> None:
        """Publish the engine at ``step`` (steps done); ``state`` goes into the manifest.

        Raises AgreedError on all workers where storage refuses, and leaves nothing half-written.
        """
        path = f"{self.run.path}/{self.attempt}/checkpoints/step-{step:06d}"
        content = {"step": step, "zero_stage": engine.stage, "world_size": self.world_size, **state}
        try:
            with self._folder(path) as folder:
                together(lambda: (folder / "state").mkdir(parents=True, exist_ok=True))
                together(lambda: _write(engine, folder))
                parts = together(lambda: self._upload(folder, path))
            files = {name: entry for part in parts for name, entry in part.items()}
            manifest = {**content, "files": files}
            at_rank_0(lambda: self.storage.write_json(f"{path}/{MANIFEST}", manifest))
        except AgreedError as error:
            if self.rank == 0:
                with contextlib.suppress(StorageError):
                    self.storage.delete_tree(path)
            raise AgreedError(f"the checkpoint of step {step} was not saved: {error}") from None
        at_rank_0(self._prune)

    @contextlib.contextmanager
    def _folder(self, path: str) -> Iterator[Path]:
        """Where this worker reads or writes a checkpoint: in place, or in a folder of its own."""
        direct = self.storage.local_path(path)
        if direct is not None:
            yield direct
            return
        folders = together(lambda: tempfile.mkdtemp(prefix="slipway-checkpoint-"))
        try:
            yield Path(folders[self.rank])
        finally:
            shutil.rmtree(folders[self.rank], ignore_errors=True)

    def _upload(self, folder: Path, path: str) -> dict[str, Any]:
        """Digest this worker's files, and copy them unless they were written in place."""
        uploaded = self.storage.local_path(path) is not None
        files = {}
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = file.relative_to(folder).as_posix()
            if uploaded and not self._mine(file.name):
                continue
            digest = sha256_file(file) if uploaded else self._send(file, f"{path}/{name}")
            files[name] = {"sha256": digest, "size": file.stat().st_size}
        return files

    def _send(self, file: Path, path: str) -> str:
        for wait_s in RETRIES_S:
            try:
                return self.storage.upload(file, path)
            except UnavailableError as error:
                say(f"warning: {error}; trying again in {wait_s} s")
                time.sleep(wait_s)
        return self.storage.upload(file, path)

    def _mine(self, name: str) -> bool:
        """Say whether this worker wrote the file, where all write into one folder."""
        for rank in range(self.world_size):
            if f"_rank_{rank}_mp" in name:
                return rank == self.rank
        return self.rank == 0

    def best(self) -> Checkpoint | None:
        """The checkpoint whose validation metric is best; of equals, the earlier."""
        scored = [c for c in checkpoints(self.run) if c.manifest.get("metric") is not None]
        sign = -1.0 if self.higher_is_better else 1.0
        return min(scored, key=lambda c: (sign * c.manifest["metric"], c.step), default=None)

    def _prune(self) -> None:
        """Delete all but the newest ``keep`` and the best, each manifest first."""
        held = sorted(checkpoints(self.run), key=lambda c: c.step)
        best = self.best()
        for old in held[: -self.keep]:
            if best is None or old.path != best.path:
                self.storage.delete(f"{old.path}/{MANIFEST}")
                self.storage.delete_tree(old.path)

    def load(self, engine: Engine, checkpoint: Checkpoint) -> None:
        """Load a checkpoint into the engine of each worker, its files verified first.

        Raises AgreedError on all workers where a file is gone or is not what was saved.
        """
        with self._folder(checkpoint.path) as folder:
            together(lambda: self._fetch(checkpoint, folder))
            engine.load(folder)

    def resume(self, engine: Engine) -> Checkpoint | None:
        """Load the newest checkpoint that is whole, and say which; None where there is none."""
        damaged: set[str] = set()
        while True:
            found = self.newest(damaged)
            if found is None:
                return None
            try:
                self.load(engine, found)
                return found
            except AgreedError as error:
                damaged.add(found.path)
                if self.rank == 0:
                    say(f"warning: {error}; going back to an earlier checkpoint")

    def newest(self, damaged: Collection[str] = ()) -> Checkpoint | None:
        """Rank 0's choice, known to all: the last checkpoint but for those known as damaged."""

        def choose() -> Checkpoint | None:
            held = [c for c in checkpoints(self.run) if c.path not in damaged]
            return max(held, key=lambda c: c.step, default=None)

        return at_rank_0(choose)

    def _fetch(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Bring the files here where they are not, and hold each against its digest."""
        for name, entry in checkpoint.manifest["files"].items():
            path, file = f"{checkpoint.path}/{name}", folder / name
            if self.storage.local_path(path) is None:
                digest = self.storage.download(path, file)
            elif not self._mine(file.name):
                continue  # another worker's to verify
            else:
                with translated(file):
                    digest = sha256_file(file)
            if digest != entry["sha256"]:
                raise DamagedError(f"{self.storage.url(path)} is not what was saved")


def _write(engine: Engine, folder: Path) -> None:
    """Have the engine write its files; torch hides the cause of what fails."""
    try:
        with translated(folder):
            engine.save(folder, {})
    except RuntimeError as error:
        probe = folder / f".probe-{torch.distributed.get_rank()}"
        with translated(folder):
            probe.write_bytes(bytes(1 << 20))
            probe.unlink()
        raise StorageError(f"{folder}: {str(error).splitlines()[0]}; run again") from error
