"""Node hours: what each stage of each run stood on, and for how long, kept as it goes.

`usage/<month>/<run>-<submission>-<stage>.json`, written when the stage begins, every minute and at
its end: what a killed driver used is known to a minute, in one small file, and outlives the run.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from cluster.plan import num_nodes, pool_of
from cluster.prices import price_of
from cluster.spec import Spec
from cluster.storage import Storage, StorageError, encode_json
from jobs.runs import Attempt, Run
from jobs.session import submission_id

FOLDER = "usage"
TICK_S, ARRIVING_S = 60.0, 3.0
"""How often it is written, and how often nodes that are waited for are looked after."""
SILENT_S = 3 * TICK_S
"""A stage whose file is as old as this has ended without a word."""


@dataclass(frozen=True)
class Usage:
    """One stage of one job: so many nodes from `began` to `until`, in seconds since 1970."""

    run: str
    submission: str
    model: str
    stage: str
    pool: str | None
    nodes: int
    began: float
    until: float
    price: float | None = None
    """Of one node, an hour, as it was then; None where nobody said."""
    currency: str | None = None
    ended: bool = True

    def node_hours(self, since: float = 0.0) -> float:
        """Of the time after ``since``."""
        return self.nodes * max(0.0, self.until - max(self.began, since)) / 3600

    def is_live(self, now: float) -> bool:
        """Whether it is under way, as far as its file tells."""
        return not self.ended and now - self.until < SILENT_S


@contextmanager
def metered(
    spec: Spec,
    run: Run,
    stage: str,
    workers: int = 1,
    since: Callable[[], float | None] | None = None,
    tick_s: float = TICK_S,
) -> Iterator[None]:
    """Keep what this block uses: the nodes that so many workers of the run's model stand on.

    ``since`` says when its nodes were there, None while they are waited for; by default at once.
    """
    meter = _Meter(spec, run, stage, workers, since)
    ended = threading.Event()
    thread = threading.Thread(target=meter.tick_until, args=(ended, tick_s), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        meter.write(ended=True)


def first_attempt(run: Run) -> Callable[[], float | None]:
    """When the first attempt began that the run makes from now on: before it nothing computes."""
    known = {attempt.number for attempt in run.attempts()}

    def since() -> float | None:
        fresh: list[Attempt] = [a for a in run.attempts() if a.number not in known]
        return float(fresh[0].info["started"]) if fresh else None

    return since


def usages(storage: Storage, since: float = 0.0) -> list[Usage]:
    """What was used after ``since``, oldest first; files of months before are not read."""
    first = _month(since - 31 * 86400)  # a stage is filed under the month that it began in
    found = []
    for entry in storage.list(FOLDER):
        if entry.path.split("/")[1] >= first and entry.modified >= since - TICK_S:
            with suppress(StorageError):  # damaged, or of another version of this program
                found.append(_usage(storage.read_json(entry.path)))
    return sorted((u for u in found if u.until > since), key=lambda usage: usage.began)


class _Meter:
    def __init__(
        self,
        spec: Spec,
        run: Run,
        stage: str,
        workers: int,
        since: Callable[[], float | None] | None,
    ) -> None:
        self._storage, self._since = run.storage, since
        name = str(run.info()["model"])
        model = spec.model(name)
        pool = pool_of(spec, model)
        price = price_of(spec, pool) if pool else None
        self._entered = time.time()
        self._began: float | None = None if since else self._entered
        submission = submission_id() or f"{socket.gethostname()}-{os.getpid()}"
        self._content: dict[str, Any] = {
            "run": run.id,
            "submission": submission,
            "model": name,
            "stage": stage,
            "pool": pool.name if pool else None,
            "nodes": num_nodes(spec, model, workers),
            "price": price.per_hour if price else None,
            "currency": price.currency if price else None,
        }
        file = f"{run.id}-{submission}-{stage}.json"
        self._path = f"{FOLDER}/{_month(self._entered)}/{file}"

    def tick_until(self, ended: threading.Event, tick_s: float) -> None:
        while True:
            self.write()
            if ended.wait(min(tick_s, ARRIVING_S) if self._began is None else tick_s):
                return

    def write(self, ended: bool = False) -> None:
        """Say that the stage was under way until now; a store that is away hears it next time."""
        with suppress(StorageError):
            if self._began is None and self._since is not None:
                self._began = self._since()
            if self._began is not None:
                times = {"began": self._began, "until": time.time(), "ended": ended}
                self._storage.write(self._path, encode_json(self._content | times))


def _usage(content: dict[str, Any]) -> Usage:
    try:
        return Usage(**content)
    except TypeError as error:
        raise StorageError(f"a file of {FOLDER}/ is not of this version: {error}") from None


def _month(moment: float) -> str:
    return time.strftime("%Y-%m", time.gmtime(max(0.0, moment)))
