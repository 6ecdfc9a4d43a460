"""Trainings that diverge: how that is noticed, and which data a rewound run leaves out.

Both follow from what all workers know alike, so that every worker comes to the same conclusion.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobs.runs import Run

NUM_LOSSES = 10
FACTOR = 10.0
REWINDS = 3
"""How often a run goes back by itself; what diverges more often needs another learning rate."""


class DivergedError(ValueError):
    """A loss, gradient or metric that left all bounds, raised on all workers alike."""


class Skip(NamedTuple):
    """From ``step`` (0-based) on, the data of ``num_steps`` steps are left out."""

    step: int
    num_steps: int


def data_step(step: int, skips: Iterable[Skip]) -> int:
    """The step whose rows a step takes, in the order of a run that skips nothing."""
    return step + sum(skip.num_steps for skip in skips if step >= skip.step)


def skips_of(run: Run) -> list[Skip]:
    """What the run leaves out: its latest attempt says so."""
    attempts = run.attempts()
    found = attempts[-1].info.get("skips", []) if attempts else []
    return [Skip(*skip) for skip in found]


class LossWatch:
    """Notices a loss that explodes: ten in a row above ten times the mean of the run's first ten.

    A single hard batch is none, nor is a run that starts from a good network and stays near it.
    """

    def __init__(self, first: Sequence[float] = ()) -> None:
        self.first = list(first)
        self._last: deque[float] = deque(maxlen=NUM_LOSSES)

    def problem(self, loss: float, norm: float) -> str | None:
        """What is wrong after a step, given its loss and gradient norm; None for nothing."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        if len(self.first) < NUM_LOSSES:
            self.first.append(loss)
            return None
        self._last.append(loss)
        start = sum(self.first) / NUM_LOSSES
        if start > 0 and len(self._last) == NUM_LOSSES and min(self._last) > FACTOR * start:
            return f"the loss explodes: {loss:.4g}, after {start:.4g} at the start"
        return None
