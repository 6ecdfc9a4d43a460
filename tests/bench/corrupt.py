"""Corrupt files: each file of a checkpoint damaged in turn, and the run takes the one before."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed

from cluster.spec import Spec
from jobs.checkpoints import Checkpoints
from jobs.engine import Engine
from jobs.loop import Worker
from jobs.runs import latest_checkpoint
from jobs.task import Task
from tests.bench.result import Result, Say
from tests.process_group import run_group
from tests.trainings import MODEL, prepare_data, write_spec

CLAIM = "corrupt files"
HOW = (
    "a run of 2 workers with checkpoints at steps 5 and 10: each file of the newer one truncated, "
    "flipped in one bit, deleted in turn, then resumed"
)
DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "flipped": lambda data: _flipped(data),
    "deleted": lambda data: None,
}
Found = dict[str, tuple[int, bool]]
"""(step resumed from, whether a warning named the file) by file and damage."""


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def damage_each(spec: Spec, data: str) -> Found:
    """Train, then damage and resume in this process's group, once for each file and damage."""
    task = Task(spec, MODEL, f"{MODEL}-train-corrupt", data, 2, "fp32")
    worker = Worker(task, torch.device("cpu"))
    worker.work()
    newest = latest_checkpoint(worker.run)
    assert newest is not None
    files = [*sorted(newest.manifest["files"]), "manifest.json"]
    found: Found = {}
    for name in files:
        for kind in DAMAGE:
            found[f"{name} {kind}"] = _resumed(worker, f"{newest.path}/{name}", kind)
    worker.engine.close()
    return found


def _resumed(worker: Worker, path: str, kind: str) -> tuple[int, bool]:
    storage, first = worker.storage, worker.rank == 0
    whole = storage.read(path)
    torch.distributed.barrier()
    changed = DAMAGE[kind](whole)
    if first and changed is None:
        storage.delete(path)
    elif first and changed is not None:
        storage.write(path, changed)
    torch.distributed.barrier()
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        engine: Engine = worker.engine
        checkpoint = Checkpoints(worker.run, 0, 1, worker.higher).resume(engine)
    torch.distributed.barrier()
    if first:
        storage.write(path, whole)
    torch.distributed.barrier()
    named = Path(path).name in told.getvalue()
    return checkpoint.step if checkpoint else 0, named


def measure(folder: Path, say: Say) -> Result:
    """Damage every file in every way."""
    train = {"steps": 10, "global_batch": 8, "workers": 2, "checkpoint": {"every": 5}}
    spec = write_spec(folder, train)
    found: Found = run_group(damage_each, 2, spec, prepare_data(spec))[0]
    for case, (step, named) in found.items():
        say(f"{case}: resumed from step {step}, {'named' if named else 'not named'}")
    # Without its manifest a checkpoint is none, as one that was never published.
    silent = [
        case for case, (_, named) in found.items() if not named and case != "manifest.json deleted"
    ]
    wrong = [case for case, (step, _) in found.items() if step != 5]
    return Result(
        f"{len(found) - len(wrong)} of {len(found)} cases took step 5; "
        f"{len(silent)} without a warning that names the file",
        "all; none",
        not wrong and not silent,
        {"found": found},
    )
