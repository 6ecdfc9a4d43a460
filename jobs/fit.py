"""A run's training from where storage says it stands to its end, by as many groups as it takes."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

from cluster.spec import Spec
from cluster.storage import StorageError
from jobs.group import Ended, Group, on_gpus, room
from jobs.placement import Placement, place
from jobs.runs import Run, latest_checkpoint
from jobs.session import say
from jobs.sizes import concrete, sizes_of
from jobs.stopping import heeding
from jobs.task import Task


class Restarts:
    """Counts failures in a row: a new checkpoint between two of them starts the count anew."""

    def __init__(self, allowed: int) -> None:
        self.allowed, self.count = allowed, 0
        self._step = -1

    def another(self, saved: int) -> bool:
        """Whether to try again after a failure, given the step of the last checkpoint."""
        self.count = 1 if saved > self._step else self.count + 1
        self._step = max(self._step, saved)
        return self.count <= self.allowed


def fit(spec: Spec, name: str, run: Run, data: str, until: int | None = None) -> dict[str, Any]:
    """Train under Ray Train to the end of the run, or until it pauses at a step.

    Returns what `jobs.loop.Worker.work` does; raises ValueError where no restart is left, and
    SystemExit where SIGTERM asked this process to end, once the workers have saved.
    """
    with heeding() as asked:
        return _fit(spec, name, run, data, until, asked)


def _fit(
    spec: Spec, name: str, run: Run, data: str, until: int | None, asked: threading.Event
) -> dict[str, Any]:
    restarts = Restarts(spec.model(name).train.restarts)
    built = concrete(spec, name, run.storage)
    sizes = sizes_of(built.model(name), run.storage, data)
    without: frozenset[str] = frozenset()
    while True:
        placed, without = _placed(built, name, sizes, without)
        task = Task(spec, name, run.id, data, placed.stage, placed.precision, until)
        say(f"starting {placed.workers} training workers")
        ended = Group(task, run, placed, sizes, without, asked).run()
        without = ended.avoid or frozenset((ended.outcome or {}).get("avoid", ()))
        if ended.outcome is not None and "superseded" in ended.outcome:
            raise ValueError(ended.outcome["superseded"])  # what it says of the run is not ours
        if ended.outcome is not None and "left" not in ended.outcome:
            return ended.outcome
        if asked.is_set():
            say(f"{run.id}: stopped as asked, {safe(run)}")
            sys.exit(128 + signal.SIGTERM)
        _consider(run, ended, restarts)


def _placed(
    spec: Spec, name: str, sizes: Mapping[str, int] | None, without: frozenset[str]
) -> tuple[Placement, frozenset[str]]:
    """The placement that does without those nodes, or with them where the others do not suffice."""
    model = spec.model(name)
    gpus = on_gpus(spec, model)
    if without:
        with contextlib.suppress(ValueError):
            return place(spec, name, sizes, room(spec, model, gpus, without, fixed=True)), without
    return place(spec, name, sizes, room(spec, model, gpus)), frozenset()


def _consider(run: Run, ended: Ended, restarts: Restarts) -> None:
    """Say why another group follows; raises ValueError where none does."""
    if ended.outcome is not None:
        say(f"{run.id}: its workers left ({ended.outcome['left']}), {safe(run)}; starting anew")
        return
    saved = latest_checkpoint(run)
    if ended.failure is not None and restarts.another(saved.step if saved else 0):
        say(
            f"warning: {ended.failure}; {safe(run)}; restart {restarts.count} of "
            f"{restarts.allowed} without a new checkpoint"
        )
        return
    cause = ended.refusal or ended.failure or "no cause is known"
    attempts = run.attempts()
    with contextlib.suppress(StorageError):  # full, perhaps: the reason is told all the same
        run.fail(attempts[-1].number if attempts else 1, cause)
    raise ValueError(f"{cause}; {safe(run)}")


def safe(run: Run) -> str:
    """Say what a run has kept."""
    last = latest_checkpoint(run)
    return f"saved up to step {last.step}" if last else "no checkpoint is saved yet"
