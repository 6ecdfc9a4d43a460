"""What a sweep knows: an append-only log of suggestions and scores in storage, and its sum.

Every event is one object, written once, under the next number. What the sweep does next follows
from the log alone, so whoever continues it decides as the one before would have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cluster.storage import Storage, encode_json

Event = dict[str, Any]


@dataclass
class Trial:
    """One point of the space and how far it has been trained."""

    number: int
    values: dict[str, Any]
    scores: dict[int, float] = field(default_factory=dict)
    """Metric by rung."""
    steps: dict[int, int] = field(default_factory=dict)
    """Steps of the optimizer by rung."""
    seconds: float = 0.0
    """Time that its legs took, start-up included."""
    run: str | None = None
    failed: str | None = None
    """Why it ended before its time."""
    stopped: bool = False
    """Ended by the scheduler."""

    @property
    def rung(self) -> int:
        """The highest rung that it has reached; -1 before the first."""
        return max(self.scores, default=-1)


@dataclass
class History:
    """The sum of a sweep's events."""

    trials: dict[int, Trial] = field(default_factory=dict)
    order: list[tuple[int, int]] = field(default_factory=list)
    """(trial, rung) in the order in which their scores came."""
    ended: str | None = None
    """Why no more trials start."""

    def add(self, event: Event) -> None:
        """Take one event into account; a score that is known already changes nothing."""
        if event["event"] == "trial":
            trial = Trial(event["trial"], event["values"])
            self.trials.setdefault(event["trial"], trial)
        elif event["event"] == "score":
            trial = self.trials[event["trial"]]
            if event["rung"] not in trial.scores:
                self.order.append((trial.number, event["rung"]))
                trial.scores[event["rung"]] = event["score"]
                trial.steps[event["rung"]] = event["step"]
                trial.seconds += event["seconds"]
                trial.run = event["run"]
        elif event["event"] == "failed":
            trial = self.trials[event["trial"]]
            trial.failed = event["reason"]
            trial.seconds += event["seconds"]
        elif event["event"] == "stopped":
            self.trials[event["trial"]].stopped = True
        elif event["event"] == "end":
            self.ended = event["reason"]

    def best(self, higher: bool) -> Trial | None:
        """The trial with the best score of all, of equals the one that was trained furthest."""
        scored = [trial for trial in self.trials.values() if trial.scores]
        sign = -1.0 if higher else 1.0
        return min(
            scored,
            key=lambda t: (min(sign * s for s in t.scores.values()), -t.rung, t.number),
            default=None,
        )


class Log:
    """The events of one sweep in storage, `sweeps/<run>/log/000000.json` and so on."""

    def __init__(self, storage: Storage, run: str) -> None:
        self.storage, self.path = storage, f"sweeps/{run}/log"
        self.number = 0

    def read(self) -> list[Event]:
        """All events so far; what is appended next follows them."""
        entries = sorted(self.storage.list(self.path), key=lambda entry: entry.path)
        self.number = len(entries)
        return [self.storage.read_json(entry.path) for entry in entries]

    def append(self, event: Event) -> None:
        """Write an event under the next number.

        Raises ValueError where another driver has written there: then the sweep is no longer ours.
        """
        if not self.storage.create(f"{self.path}/{self.number:06d}.json", encode_json(event)):
            raise ValueError("another driver has taken this sweep over; it goes on there")
        self.number += 1


def replay(events: Iterable[Event]) -> History:
    """The history that events add up to."""
    history = History()
    for event in events:
        history.add(event)
    return history
