"""A run that goes on from another's checkpoint under other values, as a run of its own.

Its first attempt begins with a copy of the checkpoint and of the curve up to there; from then on
it is a run like any other, whatever becomes of the one that it came from.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.storage import Storage, encode_json
from jobs.progress import MANIFEST, Checkpoint, checkpoints, joined_metrics
from jobs.runs import Run, latest_checkpoint, stage_digest


@dataclass(frozen=True)
class Origin:
    """A checkpoint of another run."""

    run: str
    step: int


def fork_digest(digest: str, origin: Origin | None) -> str:
    """Digest of a training that goes on from a checkpoint; the training's own without one."""
    if origin is None:
        return digest
    return stage_digest({"stage": "train", "train": digest, "origin": asdict(origin)})


def origin_of(run: Run) -> Origin | None:
    """The checkpoint that a run began with; None for one that began by itself."""
    found: dict[str, Any] | None = run.info().get("origin")
    return Origin(**found) if found else None


def open_fork(storage: Storage, model: str, digest: str, origin: Origin) -> Run:
    """The run that goes on from ``origin`` as the training of ``digest``, begun where it is new.

    Raises ValueError where the checkpoint is gone.
    """
    more = {"origin": asdict(origin)}
    run = Run.open(storage, model, "train", fork_digest(digest, origin), more=more)
    if latest_checkpoint(run) is None:
        begin(run, origin)
    return run


def begin(run: Run, origin: Origin) -> None:
    """Copy checkpoint and curve into the run's next attempt; the manifest last."""
    parent = Run(run.storage, origin.run)
    held = [c for c in checkpoints(parent) if c.step == origin.step]
    if not held:
        raise ValueError(f"{origin.run} has no checkpoint of step {origin.step} any more")
    number = run.next_attempt({"resumes": None, "origin": asdict(origin)})
    lines = [line for line in joined_metrics(parent) if line["step"] <= origin.step]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    run.storage.write(f"{run.path}/{number}/metrics.jsonl", text.encode())
    _copy(run, number, held[0])


def _copy(run: Run, attempt: int, source: Checkpoint) -> None:
    storage = run.storage
    path = f"{run.path}/{attempt}/checkpoints/step-{source.step:06d}"
    for name in source.manifest["files"]:
        local = storage.local_path(f"{source.path}/{name}")
        if local is not None:
            storage.upload(local, f"{path}/{name}")
            continue
        with tempfile.TemporaryDirectory(prefix="slipway-fork-") as folder:
            file = Path(folder, "file")
            storage.download(f"{source.path}/{name}", file)
            storage.upload(file, f"{path}/{name}")
    storage.write(f"{path}/{MANIFEST}", encode_json(source.manifest))
