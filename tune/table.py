"""A sweep as people follow it: a line per leg, and its trials as rows."""

from __future__ import annotations

from typing import Any

from cluster.spec import Money
from cluster.spec.tune import TuneSpec
from tune.cost import Pace, cost, pace_of, remaining, seconds_left
from tune.history import History, Trial
from tune.rungs import Leg

WIDTHS = (5, 5, 7, 10, 16, 9, 11)


def heading(metric: str, priced: bool) -> str:
    """The first line of the table."""
    spent = "cost so far" if priced else "worked"
    return _line(("trial", "rung", "step", metric, "best so far", "left", spent), "values")


def line(
    history: History,
    leg: Leg,
    tune: TuneSpec,
    higher: bool,
    steps: list[int],
    parallel: int,
    pace: Pace | None,
    price: Money | None = None,
) -> str:
    """Where a sweep stands after a leg; ``steps`` at each rung, ``pace`` before any is known."""
    trial, best = history.trials[leg.trial], history.best(higher)
    score = trial.scores.get(leg.rung)
    pace = pace_of(history) or pace
    legs = remaining(tune, history, len(steps), higher)
    left = "" if pace is None else duration(seconds_left(legs, steps, pace, parallel))
    ended = history.ended not in (None, "all points are tried", "no better trial")
    cells = (
        str(leg.trial),
        str(leg.rung),
        f"{trial.steps[leg.rung]:,}" if score is not None else "",
        "failed" if score is None else f"{score:.4g}",
        "" if best is None else f"{best_score(best, higher):.4g} (trial {best.number})",
        "0 s" if ended else left,
        duration(history.spent_s) if price is None else str(cost(history.spent_s, price)),
    )
    return _line(cells, shown(trial.values))


def _line(cells: tuple[str, ...], last: str) -> str:
    padded = (cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))
    return " ".join((*padded, f" {last}"))


def duration(seconds: float) -> str:
    """So much time as people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def best_score(trial: Trial, higher: bool) -> float:
    """The best of a trial's scores."""
    return (max if higher else min)(trial.scores.values())


def shown(values: dict[str, Any]) -> str:
    """Values in one line, keys by their last parts."""
    parts = []
    for key, value in values.items():
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        parts.append(f"{key.rpartition('.')[2]}={text}")
    return " ".join(parts)


def rows(history: History, higher: bool) -> list[dict[str, Any]]:
    """One row a trial, in the order of their numbers."""
    found = []
    for trial in sorted(history.trials.values(), key=lambda t: t.number):
        scored = bool(trial.scores)
        found.append(
            {
                "trial": trial.number,
                "state": "failed" if trial.failed else "stopped" if trial.stopped else "scored",
                "score": best_score(trial, higher) if scored else None,
                "rung": trial.rung,
                "steps": max(trial.steps.values(), default=0),
                "seconds": trial.seconds,
                "run": trial.run,
                "reason": trial.failed,
                **{key: trial.values.get(key) for key in keys(history)},
            }
        )
    return found


def keys(history: History) -> list[str]:
    """Every key that some trial sets."""
    return sorted({key for trial in history.trials.values() for key in trial.values})
