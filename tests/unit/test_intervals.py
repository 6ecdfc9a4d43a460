"""Intervals: as wide as theory says, the same every time, bounded for large sets."""

import math

import numpy as np
import pytest

from jobs.domains import Outcomes
from jobs.intervals import MOST_VALUES, intervals


def accuracy(outcomes: Outcomes) -> dict[str, float]:
    return {"accuracy": float((outcomes["label"] == outcomes["predicted"]).mean())}


def outcomes(size: int, share: float) -> Outcomes:
    labels = np.zeros(size, np.int64)
    return {"label": labels, "predicted": (np.arange(size) >= share * size).astype(np.int64)}


@pytest.mark.parametrize("size", [400, 20_000, 4 * MOST_VALUES])
def test_as_wide_as_the_normal_approximation(size: int) -> None:
    found = intervals(accuracy, outcomes(size, 0.9))["accuracy"]
    half = 1.96 * math.sqrt(0.9 * 0.1 / size)
    assert found[0] == pytest.approx(0.9 - half, abs=half / 4)
    assert found[1] == pytest.approx(0.9 + half, abs=half / 4)
    assert intervals(accuracy, outcomes(size, 0.9))["accuracy"] == found


def test_resamples_of_large_sets_are_bounded() -> None:
    drawn: list[int] = []

    def counted(outcomes: Outcomes) -> dict[str, float]:
        drawn.append(sum(values.size for values in outcomes.values()))
        return accuracy(outcomes)

    intervals(counted, outcomes(2 * MOST_VALUES, 0.9))
    assert max(drawn[:-1]) <= MOST_VALUES
    assert drawn[-1] == 4 * MOST_VALUES  # the metric itself is over all


def test_too_few_records_and_resamples_without_a_number() -> None:
    def picky(outcomes: Outcomes) -> dict[str, float]:
        if not outcomes["label"].any():
            raise ValueError("nothing to score")
        return accuracy(outcomes) | {"never": math.nan}

    assert intervals(accuracy, outcomes(1, 1)) == {}
    some = {"label": np.array([0, 0, 1]), "predicted": np.array([0, 1, 1])}
    assert list(intervals(picky, some)) == ["accuracy"]
