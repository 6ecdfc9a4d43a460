"""What a sweep takes: legs that are still to come, their time and their price."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass

import numpy as np

from cluster.plan import pool_of, workers_per_node
from cluster.prices import price_of
from cluster.spec import Money, Spec
from cluster.spec.tune import PBT, TuneSpec
from tune.history import History
from tune.population import exchange, is_due
from tune.rungs import START, Leg, is_below_median, next_leg

DRAWS = 16
START_S = 12.0
"""What a leg takes beside its steps, before any has been timed: workers that start and load."""


@dataclass(frozen=True)
class Pace:
    """How long a leg takes: its start, and each step."""

    start_s: float
    step_s: float

    def seconds(self, steps: int) -> float:
        """Time of a leg of so many steps."""
        return self.start_s + steps * self.step_s


def expected(tune: TuneSpec, num_rungs: int) -> Counter[int]:
    """Legs of a whole sweep, by rung: how often each is climbed depends on luck, this is a mean."""
    total: Counter[int] = Counter()
    for draw in range(DRAWS):
        total += remaining(tune, History(), num_rungs, True, draw)
    return Counter({rung: max(1, round(count / DRAWS)) for rung, count in total.items()})


def remaining(
    tune: TuneSpec, history: History, num_rungs: int, higher: bool, draw: int = 0
) -> Counter[int]:
    """Legs still to come, by rung: the sweep played to its end with scores drawn at random."""
    played, dice = copy.deepcopy(history), np.random.default_rng([draw, len(history.order)])
    legs: Counter[int] = Counter()
    while True:
        rung = is_due(tune, played, num_rungs) if isinstance(tune.scheduler, PBT) else None
        if rung is not None:
            played.add(exchange(tune, played, rung, higher))
        leg = next_leg(tune, played, set(), num_rungs, higher)
        if leg is None:
            return legs
        if leg == START:
            leg = Leg(len(played.trials), 0)
            played.add({"event": "trial", "trial": leg.trial, "values": {}})
        legs[leg.rung] += 1
        event = {"event": "score", "trial": leg.trial, "rung": leg.rung, "seconds": 0.0}
        played.add(event | {"score": float(dice.random()), "step": leg.rung, "run": ""})
        trial = played.trials[leg.trial]
        if leg.rung < num_rungs - 1 and is_below_median(tune, played, trial, higher):
            played.add({"event": "stopped", "trial": leg.trial, "rung": leg.rung})


def pace_of(history: History) -> Pace | None:
    """The pace of the legs so far, by least squares over their steps; None before the first."""
    if not history.legs:
        return None
    steps = np.array([leg.steps for leg in history.legs], float)
    seconds = np.array([leg.seconds for leg in history.legs], float)
    spread = steps - steps.mean()
    if len(set(steps)) < 2:  # nothing tells start and steps apart
        step_s = max(0.0, seconds.mean() - START_S) / max(1.0, steps.mean())
    else:
        step_s = max(0.0, float((spread * seconds).sum() / (spread**2).sum()))
    return Pace(max(0.0, float(seconds.mean() - step_s * steps.mean())), float(step_s))


def seconds_left(legs: Counter[int], steps: list[int], pace: Pace, parallel: int) -> float:
    """Time that legs take, so many at once; ``steps`` at each rung."""
    before = [0, *steps]
    total = sum(pace.seconds(steps[rung] - before[rung]) * n for rung, n in legs.items())
    return total / max(1, parallel)


def trial_price(spec: Spec, name: str, workers: int) -> Money | None:
    """What a trial costs by the hour, its share of nodes; None where no price is known.

    Raises ValueError where `tune.cost` bounds what nobody can tell.
    """
    model = spec.model(name)
    assert model.tune is not None
    pool, bound = pool_of(spec, model), model.tune.cost
    price = price_of(spec, pool) if pool is not None else None
    if pool is None or price is None:
        if bound is not None:
            raise ValueError(
                f"models.{name}.tune.cost: {bound} can be kept only where a price is known; say "
                "what a node costs (cluster.pools[0].price: 31.2 USD/h), or leave cost out"
            )
        return None
    if bound is not None and bound.currency != price.currency:
        raise ValueError(
            f"models.{name}.tune.cost: {bound}, but nodes are paid in {price.currency}"
        )
    share = workers / workers_per_node(pool, model)
    return Money(round(price.per_hour * share, 6), price.currency, "h")


def cost(seconds: float, price: Money) -> Money:
    """What so much time of a trial costs."""
    return Money(round(seconds / 3600 * price.value, 4), price.currency)
