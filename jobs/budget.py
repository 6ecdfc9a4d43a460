"""The budget's bounds as a run's cluster keeps them: a warning at one, an end at the other.

Services are none of its business. What is done is said in the store, by notice, and in the log of
whoever follows a run that is stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from cluster.notices import notify
from cluster.spec import Spec
from cluster.spec.grammar import Money
from cluster.storage import Storage, StorageError, encode_json
from jobs.runs import MissingRunError, Run
from jobs.spending import Spent, period_start, spent

Running = Callable[[], Mapping[str, str]]
"""Submission ids of the jobs that run, each with its run's id."""
Stop = Callable[[str], None]
LONGEST_S, WAITING_S, SHORTEST_S = 60.0, 10.0, 1.0


class Watch:
    """Looks at what is spent, again and again."""

    def __init__(
        self,
        spec: Spec,
        storage: Storage,
        running: Running,
        stop: Stop,
        report: Callable[[str], None] = print,
    ) -> None:
        self.spec, self._storage, self._report = spec, storage, report
        self._running, self._stop = running, stop
        self.wake = threading.Event()
        """Set where a look is due at once: a run begins."""

    def look(self, now: float | None = None) -> float:
        """Warn or stop where it is time; seconds until the next look is due.

        Raises StorageError where the store is away: look again later.
        """
        now = time.time() if now is None else now
        found = spent(self.spec, self._storage, now)
        if found is None:
            return LONGEST_S
        if found.is_over:
            self._end(found, now)
            return LONGEST_S
        if found.is_near and self._is_first("warn", found.budget, now):
            self._tell(f"{found}; at 100% runs are saved and stopped", found)
        if not found.rate:  # a run begins before its meter, and its nodes may come at any time
            return WAITING_S
        return min(LONGEST_S, max(SHORTEST_S, found.left_s))

    def is_busy(self) -> bool:
        """Whether any run is under way."""
        return bool(self._running())

    def _end(self, found: Spent, now: float) -> None:
        """Stop every run, with the reason in its folder; a run goes on when it is asked for."""
        stopped = []
        for submission, run_id in self._running().items():
            with suppress(MissingRunError):
                run = Run(self._storage, run_id)
                run.info()
                attempts = run.attempts()
                if attempts and run.result() is None:
                    run.stopped(attempts[-1].number, f"the budget is used up: {found}")
            self._stop(submission)
            stopped.append(run_id)
        is_first = self._is_first("over", found.budget, now)
        if stopped or is_first:
            names = ", ".join(stopped) or "no run was under way"
            self._tell(f"{found}; stopped: {names}; no new run starts, services go on", found)

    def _tell(self, text: str, found: Spent) -> None:
        self._report(text)
        details = {"spent": found.amount, "budget": str(found.budget), "share": found.share}
        notify(self.spec, "budget", text, details, self._report)

    def _is_first(self, what: str, budget: Money, now: float) -> bool:
        """Whether nobody has told it yet, in this period and of this budget."""
        start = time.strftime("%Y-%m-%d-%H", time.gmtime(period_start(budget, now)))
        name = f"{what}-{budget.value:g}-{budget.currency}"
        content: dict[str, Any] = {"time": now, "budget": str(budget)}
        return self._storage.create(f"budget/{start}/{name}.json", encode_json(content))


def look_forever(watch: Watch, idle: Callable[[], None], patience: int = 18) -> None:
    """Look until no run has been under way for a while; then be ``idle``."""
    quiet = 0
    while quiet < patience:
        wait_s = WAITING_S
        # the store or the cluster's jobs are away: nobody else would look again
        with suppress(StorageError, RuntimeError, OSError):
            wait_s = watch.look()
            quiet = 0 if watch.is_busy() else quiet + 1
        watch.wake.wait(wait_s)
        watch.wake.clear()
    idle()
