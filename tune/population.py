"""Population based training (Jaderberg et al., arXiv 1711.09846): pure decisions from a history.

All trials train to a rung; then the worst go on from the checkpoints of the best, with keys that
were changed. Nobody goes on before all are there, so that the decision depends on no timing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cluster.spec.tune import PBT, Dimension, TuneSpec
from cluster.spec.tune_checks import is_changeable
from tune.history import Event, History, Trial
from tune.rungs import ranked
from tune.space import Space, Values, at, is_active, ordered, place_of

RESAMPLE = 0.25
"""Share of the changed keys that are drawn anew (Jaderberg et al., appendix A)."""
FACTORS = (0.8, 1.2)


def is_due(tune: TuneSpec, history: History, num_rungs: int) -> int | None:
    """The rung at which the population exchanges next; None while some have not reached it."""
    alive = members(history)
    rung = min((t.rung for t in alive), default=-1)
    started = len(history.trials) >= tune.trials or history.ended is not None
    if not started or rung < 0 or rung >= num_rungs - 1 or rung in history.exchanged:
        return None
    return rung


def exchange(tune: TuneSpec, history: History, rung: int, higher: bool) -> Event:
    """Who goes on from whom, and with which values; one event."""
    assert isinstance(tune.scheduler, PBT)
    order = ranked(members(history), rung, higher)
    count = min(len(order) // 2, max(1, int(tune.scheduler.share * len(order))))
    moves = []
    for loser in order[len(order) - count :]:
        dice = np.random.default_rng([tune.seed, loser.number, rung])
        winner = order[int(dice.integers(count))]
        moves.append(
            {
                "trial": loser.number,
                "from": winner.number,
                "run": winner.runs[rung],
                "step": winner.steps[rung],
                "values": changed(tune.space, winner.values, dice),
            }
        )
    return {"event": "exchange", "rung": rung, "moves": moves}


def members(history: History) -> list[Trial]:
    """The trials that have not failed."""
    return [t for t in history.trials.values() if not t.failed]


def changed(space: Space, values: Values, dice: np.random.Generator) -> Values:
    """Values near others: each key that may change in mid-training is drawn anew or moved."""
    made: Values = {}
    for key in ordered(space):
        if not is_active(space[key], made):
            continue
        if key in values and not is_changeable(key):
            made[key] = values[key]
        elif key not in values or dice.random() < RESAMPLE:
            made[key] = at(space[key], float(dice.random()))
        else:
            made[key] = _moved(space[key], values[key], dice)
    return made


def _moved(dimension: Dimension, value: Any, dice: np.random.Generator) -> Any:
    """A fifth more or less, within the range; of a list the neighbour."""
    if dimension.choice is not None:
        place = place_of(dimension, value) + int(dice.choice((-1, 1)))
        return dimension.choice[min(max(place, 0), len(dimension.choice) - 1)]
    low, high = dimension.corners()
    moved = value * float(dice.choice(FACTORS))
    if dimension.kind in ("int", "logint"):
        moved = math.floor(moved) if moved < value else math.ceil(moved)
    return min(max(moved, low), high)
