"""While a job says nothing: what it waits for, each reason once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from cluster.connection import ClusterError, Connection
from cluster.spec import Spec
from cluster.status import Waiting, describe_waiting, status

QUIET_S, LONGEST_S = 10.0, 60.0
"""A job that is silent so long is looked after, and less and less often."""
Look = Callable[[], Iterable[Waiting]]


class Waits:
    """Tells, in a thread beside the job's output, why it does not go on."""

    def __init__(
        self, look: Look, job: str, tell: Callable[[str], None], quiet_s: float = QUIET_S
    ) -> None:
        self._look, self._job, self._tell = look, job, tell
        self._quiet_s = quiet_s
        self._heard, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def heard(self) -> None:
        """The job printed something: it goes on."""
        self._heard.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._heard.set()
        self._thread.join(timeout=1.0)  # it may be asking a cluster that does not answer

    def _run(self) -> None:
        told: set[str] = set()
        wait_s = self._quiet_s
        while not self._ended.is_set():
            if self._heard.wait(wait_s):
                self._heard.clear()
                wait_s = self._quiet_s
                continue
            for line in self._reasons():
                if line not in told and not self._ended.is_set():
                    told.add(line)
                    self._tell(f"waiting: {line}")
            wait_s = min(2 * wait_s, max(LONGEST_S, self._quiet_s))

    def _reasons(self) -> list[str]:
        try:
            found = list(self._look())
        except ClusterError:  # whoever follows the job hears of that
            return []
        return [describe_waiting(each) for each in found if each.job in (self._job, None)]


def looking(connection: Connection, spec: Spec) -> Look:
    """Ask the cluster what waits on it."""
    return lambda: status(connection, spec).waiting
