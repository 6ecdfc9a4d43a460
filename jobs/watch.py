"""The watch over a group of workers: an actor beside the driver, to which each says that it lives.

A worker whose process is stopped or whose node is gone falls silent; one that waits for the others
goes on reporting, but not on counting. So the two can be told apart, and named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.pulse import STEPS

REPORT_EVERY_S = 2.0
SILENT_S = 4 * REPORT_EVERY_S
WAITING = "distributed_c10d"
"""In the stack of a worker that waits for others."""


@dataclass(frozen=True)
class Place:
    """Where a worker is."""

    rank: int
    host: str
    node: str
    """Ray's id of the node."""
    pid: int
    began: float
    """When the process began: another may get its number later."""

    def __str__(self) -> str:
        return f"worker {self.rank} on {self.host} (process {self.pid})"


@dataclass
class Seen:
    """What is known of a worker, by the watch's clock."""

    place: Place
    beats: int
    phase: str
    heard: float
    moved: float
    stack: str | None = None

    def silent(self, now: float) -> bool:
        """Whether it has said nothing for a while."""
        return now - self.heard > SILENT_S


class Watch:
    """Hears the workers and tells them what the driver wants, which makes an actor of it.

    It hears one group after another: a process for each would cost every start of one a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._group: str | None = None
        """None where it started anew: whoever reports then is of the group that there is."""
        self._seen: dict[int, Seen] = {}
        self._orders: dict[str, Any] = {}

    def begin(self, group: str) -> None:
        """Hear the workers of a group and no others'."""
        self._group, self._seen, self._orders = group, {}, {}

    def report(
        self, group: str, place: Place, beats: int, phase: str, stack: str | None
    ) -> dict[str, Any]:
        """A worker's sign of life; answers {"leave": reason, "stack": whether it is wanted}."""
        if self._group not in (None, group):
            return {"leave": "another group has taken over"}
        now = self._clock()
        before = self._seen.get(place.rank)
        still = before is not None and (before.beats, before.phase) == (beats, phase)
        moved = before.moved if before is not None and still else now
        self._seen[place.rank] = Seen(place, beats, phase, now, moved, stack)
        return self._orders

    def order(self, **orders: Any) -> None:
        """What workers are told when they report next."""
        self._orders |= orders

    def look(self) -> tuple[float, list[Seen]]:
        """The time, and what is known of each worker, by rank."""
        return self._clock(), [self._seen[rank] for rank in sorted(self._seen)]


def is_stalled(now: float, seen: Sequence[Seen], workers: int, stall_s: float) -> bool:
    """Whether nothing is to be hoped for: for ``stall_s`` a worker was silent, or none got on.

    Only steps are expected to get on: how long a validation or a start takes, nobody knows.
    """
    if any(now - each.heard > stall_s for each in seen):
        return True
    return (
        len(seen) == workers
        and all(each.phase == STEPS for each in seen)
        and now - max(each.moved for each in seen) > stall_s
    )


def to_blame(now: float, seen: Sequence[Seen]) -> list[Seen]:
    """Who holds the others up: the silent, else those that wait for nobody, else all."""
    silent = [each for each in seen if each.silent(now)]
    busy = [each for each in seen if each.stack and WAITING not in each.stack]
    return silent or busy or list(seen)


def verdict(now: float, blamed: Sequence[Seen], stall_s: float) -> str:
    """What happened, for the log and for the run's end."""
    names = ", ".join(
        f"{each.place} {'does not answer' if each.silent(now) else 'is stuck'}" for each in blamed
    )
    return f"no step for {stall_s:.0f} s: {names}"
