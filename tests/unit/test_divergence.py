"""What counts as divergence, and which data a run that went back leaves out."""

import math
from pathlib import Path
from typing import Any

import pytest

from cluster.local_storage import LocalStorage
from jobs.divergence import LossWatch, Skip, data_step, skips_of
from jobs.runs import Run


def told(losses: list[float], first: list[float] | None = None) -> list[str | None]:
    watch = LossWatch(first or [])
    return [watch.problem(loss, 1.0) for loss in losses]


@pytest.mark.parametrize(
    ("loss", "norm", "words"),
    [
        (math.nan, 1.0, "loss is nan"),
        (math.inf, 1.0, "loss is inf"),
        (2.0, math.nan, "norm is nan"),
    ],
)
def test_what_is_no_number(loss: float, norm: float, words: str) -> None:
    assert words in str(LossWatch().problem(loss, norm))
    assert LossWatch().problem(2.0, 1.0) is None


def test_an_explosion_lasts_ten_steps() -> None:
    start = [2.0] * 10
    assert told([*start, *[21.0] * 9]) == [None] * 19
    assert told([*start, *[21.0] * 9, 5.0, 21.0]) == [None] * 21
    assert "explodes: 21, after 2" in str(told([*start, *[21.0] * 10])[-1])
    assert "explodes" in str(told([21.0] * 10, first=start)[-1])


def test_what_explodes_not() -> None:
    assert not any(told([0.0] * 10 + [3.0] * 30))
    assert not any(told([7.0] * 10 + [69.0] * 30))


def test_skipped_data() -> None:
    assert [data_step(step, []) for step in range(3)] == [0, 1, 2]
    assert [data_step(step, [Skip(2, 3), Skip(4, 1)]) for step in range(6)] == [0, 1, 5, 6, 8, 9]


def test_the_latest_attempt_says_what_is_skipped(tmp_path: Path) -> None:
    run = Run.open(LocalStorage(tmp_path), "m", "train", "7f3a" + "0" * 60)
    assert skips_of(run) == []
    info: dict[str, Any] = {"resumes": None}
    run.next_attempt(info | {"skips": [Skip(5, 3)]})
    assert skips_of(run) == [Skip(5, 3)]
