"""A sweep as people follow it: a line per leg, and its trials as rows."""

from __future__ import annotations

from typing import Any

from cluster.spec.tune import TuneSpec
from tune.history import History, Trial


def line(history: History, tune: TuneSpec | None, higher: bool) -> str:
    """Where a sweep stands after its newest leg."""
    assert tune is not None
    best = history.best(higher)
    done = sum(1 for t in history.trials.values() if t.scores or t.failed)
    text = f"{done} of at most {tune.trials} trials"
    if history.order:
        trial = history.trials[history.order[-1][0]]
        rung = trial.rung
        text += f"; trial {trial.number} {shown(trial.values)}, step {trial.steps[rung]}: "
        text += f"{trial.scores[rung]:.4g}"
    if best is not None:
        text += f"; best so far {best_score(best, higher):.4g} (trial {best.number})"
    return text


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
