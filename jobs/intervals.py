"""How far a metric would move with other records: 95 % intervals by the bootstrap.

Efron (1979), "Bootstrap methods: another look at the jackknife"; the percentile method. Of large
sets each resample takes m of the n records and the interval is shrunk by sqrt(m / n) around the
metric (Bickel, Götze and van Zwet, 1997), so that the time is bounded whatever the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from jobs.domains import Outcomes

RESAMPLES = 500
SEED = 1979
SHARES = (2.5, 97.5)
MOST_VALUES = 100_000
"""Numbers in one resample: 500 of them are drawn and scored within some seconds."""
LEAST_RECORDS = 500

Intervals = dict[str, list[float]]


def intervals(metrics: Callable[[Outcomes], dict[str, float]], outcomes: Outcomes) -> Intervals:
    """{metric: [low, high]} over records drawn anew, the same for the same outcomes.

    A metric without a number in a resample (a class that was not drawn) is left out of that one;
    of fewer than two records nothing can be said, and {} is returned.
    """
    size = len(next(iter(outcomes.values())))
    if size < 2:
        return {}
    taken = _taken(outcomes, size)
    generator = np.random.default_rng(SEED)
    drawn: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        places = generator.integers(size, size=taken)
        try:
            found = metrics({name: values[places] for name, values in outcomes.items()})
        except ValueError:  # records without anything to score
            continue
        for name, value in found.items():
            if math.isfinite(value):
                drawn.setdefault(name, []).append(value)
    whole = metrics(outcomes)
    return {
        name: _interval(values, whole[name], math.sqrt(taken / size))
        for name, values in drawn.items()
        if name in whole and math.isfinite(whole[name])
    }


def _taken(outcomes: Outcomes, size: int) -> int:
    """Records of one resample."""
    width = sum(values.size for values in outcomes.values()) / size
    return min(size, max(LEAST_RECORDS, int(MOST_VALUES / max(1.0, width))))


def _interval(values: list[float], whole: float, shrink: float) -> list[float]:
    low, high = np.percentile(values, SHARES)
    if shrink < 1:
        low, high = whole + shrink * (low - whole), whole + shrink * (high - whole)
    return [float(low), float(high)]
