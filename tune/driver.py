"""The searcher that Ray Tune asks for the next leg: decisions from the log, results into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from cluster.spec import ModelSpec, Money
from cluster.spec.tune import PBT
from jobs.session import say
from tune.bounds import reason_to_end
from tune.history import Event, History, Log, Trial, replay
from tune.population import exchange, is_due
from tune.rungs import START, Ladder, Leg, is_below_median, next_leg
from tune.search import suggest

Show = Callable[[History, Leg], None]
Begin = Callable[[Trial], None]
"""Makes the run that a trial goes on as, a copy of another's checkpoint."""


class Legs(Searcher):  # type: ignore[misc]
    """Each Tune trial is one leg: one of our trials, trained from its rung to the next."""

    def __init__(
        self,
        model: ModelSpec,
        ladder: Ladder,
        log: Log,
        show: Show,
        begin: Begin,
        price: Money | None = None,
    ) -> None:
        """``price`` is what a trial costs by the hour, where that is known."""
        super().__init__()
        assert model.tune is not None
        self.tune, self.ladder, self.log, self.price = model.tune, ladder, log, price
        self.higher, self.metric_name = model.direction == "max", model.metric
        self.history = replay(log.read())
        self.under_way: dict[str, Leg] = {}
        self.show, self.begin = show, begin
        self._add({"event": "opened"})
        self._begin_moved()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next leg; None while that depends on those under way; FINISHED at the end."""
        self._check_bounds()
        self._exchange()
        leg = self._decide()
        if leg is None:
            return None if self.under_way else Searcher.FINISHED
        self.under_way[trial_id] = leg
        stretch = self.history.trials[leg.trial].stretches[-1]
        origin = stretch.origin
        return {
            "trial": leg.trial,
            "rung": leg.rung,
            "values": stretch.values,
            "origin": origin and {"run": origin.run, "step": origin.step},
        }

    def _decide(self) -> Leg | None:
        if self.history.ended is not None and not self._climbs():
            return None
        leg = self._next()
        return self._start() if leg == START else leg

    def _next(self) -> Leg | None:
        busy = {leg.trial for leg in self.under_way.values()}
        return next_leg(self.tune, self.history, busy, len(self.ladder), self.higher)

    def _climbs(self) -> bool:
        """Whether a sweep that takes no more trials still trains those it has."""
        return self.history.ended in ("all points are tried", "no better trial")

    def _start(self) -> Leg | None:
        number = len(self.history.trials)
        values = suggest(self.tune, number, self.history, self.higher)
        if values is None:
            self._add({"event": "end", "reason": "all points are tried"})
            self._exchange()
            return self._next()
        self._add({"event": "trial", "trial": number, "values": values})
        return Leg(number, 0)

    def _exchange(self) -> None:
        """Let the worst of a population go on from the best, once all have come as far."""
        if not isinstance(self.tune.scheduler, PBT):
            return
        rung = is_due(self.tune, self.history, len(self.ladder))
        if rung is not None:
            self._add(exchange(self.tune, self.history, rung, self.higher))
            self._begin_moved()

    def _begin_moved(self) -> None:
        """Copy checkpoints before those that they come from go on and delete them."""
        for trial in self.history.trials.values():
            last = trial.stretches[-1]
            if last.origin is not None and trial.rung < last.since and not trial.failed:
                self.begin(trial)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Write what a leg gave into the log."""
        leg = self.under_way.pop(trial_id)
        result = result or {}
        common = {"trial": leg.trial, "rung": leg.rung, "seconds": result.get("seconds", 0.0)}
        if error or "score" not in result:
            reason = result.get("failed") or "the trial's process died; see the sweep's log"
            self._add({"event": "failed", "reason": reason, **common})
            say(f"trial {leg.trial} failed: {reason}")
            if result.get("unscored"):  # nor will the others be
                self._end(reason)
        else:
            told = {key: result[key] for key in ("score", "step", "run")}
            self._add({"event": "score", **common, **told})
            self._judge(leg)
        self.show(self.history, leg)

    def _judge(self, leg: Leg) -> None:
        trial = self.history.trials[leg.trial]
        last = leg.rung == len(self.ladder) - 1
        if not last and is_below_median(self.tune, self.history, trial, self.higher):
            self._add({"event": "stopped", "trial": leg.trial, "rung": leg.rung})

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A leg reports once, at its end."""

    def _add(self, event: Event) -> None:
        event["time"] = time.time()
        self.log.append(event)
        self.history.add(event)

    def _check_bounds(self) -> None:
        if self.history.ended is None:
            reason = reason_to_end(self.tune, self.history, self.higher, self.price, time.time())
            if reason is not None:
                self._end(reason)

    def _end(self, reason: str) -> None:
        self._add({"event": "end", "reason": reason})
        say(f"no more trials start: {reason}")

    def save(self, checkpoint_path: str) -> None:
        """Tune's own snapshot holds nothing: the log is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""
