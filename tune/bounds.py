"""When a sweep takes no more trials: its time, its cost, its failures, its patience. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from cluster.spec import Money
from cluster.spec.tune import TuneSpec
from tune.cost import cost
from tune.history import History

FEWEST_JUDGED = 4
"""Trials that must have ended or scored before their failures end the sweep."""


def reason_to_end(
    tune: TuneSpec, history: History, higher: bool, price: Money | None, now: float
) -> str | None:
    """Why no more trials start; None where they do. ``price`` is a trial's by the hour."""
    return (
        _over(tune, history, now)
        or _spent(tune, history, price)
        or _failing(tune, history)
        or _stuck(tune, history, higher)
    )


def _over(tune: TuneSpec, history: History, now: float) -> str | None:
    if tune.time is not None and history.elapsed_s(now) > tune.time:
        return f"tune.time: {tune.time:g} s are over"
    return None


def _spent(tune: TuneSpec, history: History, price: Money | None) -> str | None:
    if tune.cost is None or price is None:
        return None
    so_far = cost(history.spent_s, price)
    if so_far.value < tune.cost.value:
        return None
    return f"tune.cost: {so_far} of {tune.cost} are spent"


def _failing(tune: TuneSpec, history: History) -> str | None:
    trials = history.trials.values()
    failed = [trial.failed for trial in trials if trial.failed]
    judged = sum(1 for trial in trials if trial.failed or trial.scores)
    if judged < FEWEST_JUDGED or len(failed) <= tune.failures * judged:
        return None
    cause, count = next(iter(causes(failed)))
    common = f"{cause}" if count == len(failed) else f"{cause} ({count} of them)"
    return f"{len(failed)} of {judged} trials failed, most often: {common}"


def causes(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Causes and how often each, the commonest first; one that differs by numbers is the same."""
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reason in reasons:
        kind = re.sub(r"\S*\d\S*", "#", reason)
        examples.setdefault(kind, reason)
        counts[kind] += 1
    return [(examples[kind], count) for kind, count in counts.most_common()]


def _stuck(tune: TuneSpec, history: History, higher: bool) -> str | None:
    patience, best = tune.patience, history.best(higher)
    if patience is None or best is None:
        return None
    since = sum(1 for t in history.trials.values() if t.number > best.number and t.scores)
    return "no better trial" if since >= patience else None
