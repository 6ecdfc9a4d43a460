"""What a sweep knows: an append-only log of suggestions and scores in storage, and its sum.

Every event is one object, written once, under the next number. What the sweep does next follows
from the log alone, so whoever continues it decides as the one before would have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cluster.storage import Storage, encode_json
from jobs.forks import Origin

Event = dict[str, Any]


@dataclass(frozen=True)
class Stretch:
    """A part of a trial under the same values, from a rung on."""

    since: int
    values: dict[str, Any]
    origin: Origin | None = None
    """Where it goes on from; None for a training from its beginning."""


@dataclass(frozen=True)
class Done:
    """One leg that gave a score: optimizer steps of its own, and how long it took."""

    rung: int
    steps: int
    seconds: float


@dataclass
class Trial:
    """One point of the space and how far it has been trained."""

    number: int
    stretches: list[Stretch]
    scores: dict[int, float] = field(default_factory=dict)
    """Metric by rung."""
    steps: dict[int, int] = field(default_factory=dict)
    """Steps of the optimizer by rung."""
    runs: dict[int, str] = field(default_factory=dict)
    """Run by rung."""
    seconds: float = 0.0
    """Time that its legs took, start-up included."""
    failed: str | None = None
    """Why it ended before its time."""
    stopped: bool = False
    """Ended by the scheduler."""

    @property
    def values(self) -> dict[str, Any]:
        """Its values now."""
        return self.stretches[-1].values

    @property
    def rung(self) -> int:
        """The highest rung that it has reached; -1 before the first."""
        return max(self.scores, default=-1)

    @property
    def run(self) -> str | None:
        """The run that it trained last."""
        return self.runs.get(self.rung)

    def best_rung(self, higher: bool) -> int:
        """The rung of its best score, of equals the last."""
        sign = 1.0 if higher else -1.0
        return max(self.scores, key=lambda rung: (sign * self.scores[rung], rung))

    def stretch_at(self, rung: int) -> Stretch:
        """What led to its score at a rung."""
        return next(s for s in reversed(self.stretches) if s.since <= rung)


@dataclass
class History:
    """The sum of a sweep's events."""

    trials: dict[int, Trial] = field(default_factory=dict)
    order: list[tuple[int, int]] = field(default_factory=list)
    """(trial, rung) in the order in which their scores came."""
    legs: list[Done] = field(default_factory=list)
    """Those that gave a score, in the same order; none of an earlier sweep."""
    exchanged: set[int] = field(default_factory=set)
    """Rungs at which a population has exchanged its checkpoints."""
    prior: list[tuple[dict[str, Any], float]] = field(default_factory=list)
    """Values and best scores of the sweep that this one learns from."""
    taken: int = 0
    """Trials taken over from an earlier sweep."""
    spent_s: float = 0.0
    """Time of all legs, added up."""
    ended: str | None = None
    """Why no more trials start."""
    _sessions: list[list[float]] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take one event into account; a score that is known already changes nothing."""
        kind = event["event"]
        if kind == "opened":
            self._sessions.append([event["time"], event["time"]])
        elif self._sessions and "time" in event:
            self._sessions[-1][1] = event["time"]
        if kind == "trial":
            self._start(event)
        elif kind == "score":
            self._score(event)
        elif kind == "failed":
            self.trials[event["trial"]].failed = event["reason"]
            self._spend(event)
        elif kind == "stopped":
            self.trials[event["trial"]].stopped = True
        elif kind == "exchange":
            self._exchange(event)
        elif kind == "prior":
            self.prior = [(point["values"], point["score"]) for point in event["points"]]
        elif kind == "end":
            self.ended = event["reason"]

    def _start(self, event: Event) -> None:
        number = event["trial"]
        self.taken += int(number not in self.trials and event.get("taken", False))
        self.trials.setdefault(number, Trial(number, [Stretch(0, event["values"])]))

    def _score(self, event: Event) -> None:
        trial, rung = self.trials[event["trial"]], event["rung"]
        if rung in trial.scores:
            return
        before = trial.steps.get(trial.rung, 0)
        self.order.append((trial.number, rung))
        trial.scores[rung], trial.steps[rung] = event["score"], event["step"]
        trial.runs[rung] = event["run"]
        if not event.get("taken"):
            self.legs.append(Done(rung, event["step"] - before, event["seconds"]))
        self._spend(event)

    def _spend(self, event: Event) -> None:
        self.trials[event["trial"]].seconds += event["seconds"]
        self.spent_s += event["seconds"]

    def _exchange(self, event: Event) -> None:
        self.exchanged.add(event["rung"])
        for move in event["moves"]:
            origin = Origin(move["run"], move["step"])
            stretch = Stretch(event["rung"] + 1, move["values"], origin)
            self.trials[move["trial"]].stretches.append(stretch)

    def elapsed_s(self, now: float | None = None) -> float:
        """Time under way, over all drivers; with ``now`` the last one goes on."""
        if now is not None and self._sessions:
            self._sessions[-1][1] = max(now, self._sessions[-1][1])
        return sum(last - first for first, last in self._sessions)

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
        self.storage, self.run, self.path = storage, run, f"sweeps/{run}/log"
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
