"""Checkpoints of a run in storage: a folder counts once its manifest is there.

Storage is the one owner of a run's state. Neither Ray Train's controller nor DeepSpeed's ``latest``
file is asked where a run stands.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch.distributed

from cluster.storage import Storage, sha256_file
from jobs.engine import Engine
from jobs.runs import Checkpoint, Run, checkpoints
from jobs.session import say

MANIFEST = "manifest.json"


class Checkpoints:
    """Save, find, load and prune the checkpoints of one attempt; every verb is collective."""

    def __init__(self, run: Run, attempt: int, keep: int, higher_is_better: bool) -> None:
        self.run, self.attempt, self.keep = run, attempt, keep
        self.higher_is_better = higher_is_better
        self.storage: Storage = run.storage
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()

    def save(self, engine: Engine, step: int, state: dict[str, Any]) -> None:
        """Publish the engine at ``step`` (steps done); ``state`` goes into the manifest."""
        path = f"{self.run.path}/{self.attempt}/checkpoints/step-{step:06d}"
        direct = self.storage.local_path(path)
        folder = direct or Path(tempfile.mkdtemp(prefix="slipway-checkpoint-"))
        try:
            (folder / "state").mkdir(parents=True, exist_ok=True)
            engine.save(folder, {})
            files = self._upload(folder, path, uploaded=direct is not None)
            self._publish(path, files, {"step": step, "zero_stage": engine.stage, **state})
        finally:
            if direct is None:
                shutil.rmtree(folder, ignore_errors=True)

    def _upload(self, folder: Path, path: str, uploaded: bool) -> dict[str, Any]:
        """Digest this worker's files, and copy them unless they were written in place."""
        torch.distributed.barrier()
        files = {}
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = file.relative_to(folder).as_posix()
            if uploaded and not self._mine(file.name):
                continue
            digest = sha256_file(file) if uploaded else self.storage.upload(file, f"{path}/{name}")
            files[name] = {"sha256": digest, "size": file.stat().st_size}
        return files

    def _mine(self, name: str) -> bool:
        """Say whether this worker wrote the file, where all write into one folder."""
        for rank in range(self.world_size):
            if f"_rank_{rank}_mp" in name:
                return rank == self.rank
        return self.rank == 0

    def _publish(self, path: str, files: dict[str, Any], content: dict[str, Any]) -> None:
        parts: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(parts, files)
        if self.rank == 0:
            every = {name: entry for part in parts for name, entry in part.items()}
            content = {**content, "world_size": self.world_size, "files": every}
            self.storage.write_json(f"{path}/{MANIFEST}", content)
            self._prune()
        torch.distributed.barrier()

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
        """Load a checkpoint into the engine of each worker, its files verified first."""
        direct = self.storage.local_path(checkpoint.path)
        folder = direct or Path(tempfile.mkdtemp(prefix="slipway-checkpoint-"))
        try:
            if direct is None:
                for name in checkpoint.manifest["files"]:
                    self.storage.download(f"{checkpoint.path}/{name}", folder / name)
            engine.load(folder)
        finally:
            if direct is None:
                shutil.rmtree(folder, ignore_errors=True)

    def newest(self, before: int) -> Checkpoint | None:
        """Rank 0's choice, known to all: the newest whole checkpoint of the earlier attempts."""
        chosen: list[Any] = [None]
        if self.rank == 0:
            candidates = sorted(checkpoints(self.run), key=lambda c: c.step, reverse=True)
            chosen[0] = next((c for c in candidates if self._whole(c)), None)
        torch.distributed.broadcast_object_list(chosen, src=0)
        return chosen[0]  # type: ignore[no-any-return]

    def _whole(self, checkpoint: Checkpoint) -> bool:
        """Compare sizes and, on a local path, digests with the manifest; name what differs."""
        for name, entry in checkpoint.manifest["files"].items():
            path = f"{checkpoint.path}/{name}"
            local = self.storage.local_path(path)
            if not self.storage.exists(path) or (local and sha256_file(local) != entry["sha256"]):
                say(f"warning: {path} does not match its digest; using an earlier checkpoint")
                return False
        return True
