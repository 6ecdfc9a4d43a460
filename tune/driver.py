"""The searcher that Ray Tune asks for the next leg: decisions from the log, results into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from cluster.spec import ModelSpec
from jobs.session import say
from tune.history import Event, History, Log, replay
from tune.rungs import START, Ladder, Leg, is_below_median, next_leg
from tune.search import suggest


class Legs(Searcher):  # type: ignore[misc]
    """Each Tune trial is one leg: one of our trials, trained from its rung to the next."""

    def __init__(
        self, model: ModelSpec, ladder: Ladder, log: Log, show: Callable[[History], None]
    ) -> None:
        super().__init__()
        assert model.tune is not None
        self.tune, self.ladder, self.log = model.tune, ladder, log
        self.higher, self.metric_name = model.direction == "max", model.metric
        self.history = replay(log.read())
        self.under_way: dict[str, Leg] = {}
        self.show, self.began = show, time.monotonic()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next leg; None while that depends on those under way; FINISHED at the end."""
        self._check_bounds()
        leg = self._decide()
        if leg is None:
            return None if self.under_way else Searcher.FINISHED
        self.under_way[trial_id] = leg
        trial = self.history.trials[leg.trial]
        return {"trial": leg.trial, "rung": leg.rung, "values": trial.values}

    def _decide(self) -> Leg | None:
        busy = {leg.trial for leg in self.under_way.values()}
        if self.history.ended is not None and not self._climbs():
            return None
        leg = next_leg(self.tune, self.history, busy, len(self.ladder), self.higher)
        return self._start() if leg == START else leg

    def _climbs(self) -> bool:
        """Whether a sweep that takes no more trials still trains those it has."""
        return self.history.ended in ("all points are tried", "no better trial")

    def _start(self) -> Leg | None:
        number = len(self.history.trials)
        values = suggest(self.tune, number, self.history, self.higher)
        if values is None:
            self._add({"event": "end", "reason": "all points are tried"})
            busy = {leg.trial for leg in self.under_way.values()}
            return next_leg(self.tune, self.history, busy, len(self.ladder), self.higher)
        self._add({"event": "trial", "trial": number, "values": values})
        return Leg(number, 0)

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
        else:
            told = {key: result[key] for key in ("score", "step", "run")}
            self._add({"event": "score", **common, **told})
            self._judge(leg)
        self.show(self.history)

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
        if self.history.ended is not None:
            return
        reason = self._over() or self._failing() or self._stuck()
        if reason is not None:
            self._add({"event": "end", "reason": reason})
            say(f"no more trials start: {reason}")

    def _over(self) -> str | None:
        bound = self.tune.time
        if bound is not None and time.monotonic() - self.began > bound:
            return f"tune.time: {bound:g} s are over"
        return None

    def _failing(self) -> str | None:
        trials = self.history.trials.values()
        failed = [trial.failed for trial in trials if trial.failed]
        judged = sum(1 for trial in trials if trial.failed or trial.scores)
        if judged < 4 or len(failed) <= self.tune.failures * judged:
            return None
        common = max(set(failed), key=failed.count)
        return f"{len(failed)} of {judged} trials failed, most often: {common}"

    def _stuck(self) -> str | None:
        patience, best = self.tune.patience, self.history.best(self.higher)
        if patience is None or best is None:
            return None
        since = sum(1 for t in self.history.trials.values() if t.number > best.number and t.scores)
        return "no better trial" if since >= patience else None

    def save(self, checkpoint_path: str) -> None:
        """Tune's own snapshot holds nothing: the log is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""
