"""What a sweep will take, before it starts: trials at each rung, hours and price."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cluster.plan import num_nodes
from cluster.spec import ModelSpec, Money, Spec
from cluster.spec.grammar import Amount
from cluster.spec.tune import ASHA, PBT, NoScheduler, Search, TuneSpec
from jobs.forecast import Forecast
from tune.cost import START_S, Pace, cost, expected, seconds_left, trial_price
from tune.room import Room, room_of
from tune.rungs import Ladder
from tune.space import grid_size
from tune.table import duration

NOMINAL_STEPS = 1000
"""Steps of an epoch whose rows are not counted yet, where everything is told in epochs."""


@dataclass(frozen=True)
class SweepPlan:
    """How many trials train how far, at what cost; None for what nothing tells yet."""

    room: Room
    trials: int
    rungs: list[tuple[str, int]]
    """How far a trial is trained there, and how many trials are, as a rule."""
    steps: int | None
    """Of all trials together."""
    seconds: float | None
    price: Money | None

    def document(self) -> dict[str, Any]:
        """The JSON of it."""
        rungs = [{"until": until, "trials": count} for until, count in self.rungs]
        hours = None if self.seconds is None else self.seconds / 3600
        return {
            "trials": self.trials,
            "parallel": self.room.parallel,
            "workers": self.room.workers,
            "rungs": rungs,
            "steps": self.steps,
            "hours": hours,
            "price": str(self.price) if self.price else None,
        }

    def describe(self) -> str:
        """It in one line."""
        parts = [self.room.describe()]
        if self.steps is not None:
            parts.append(f"{self.steps:,} steps in all")
        time = "time unknown until a first run is measured"
        parts.append(time if self.seconds is None else f"about {duration(self.seconds)}")
        if self.price is not None:
            parts.append(f"{self.price.value:,.2f} {self.price.currency}")
        return "; ".join(parts)


def plan_sweep(spec: Spec, name: str, rows: int | None, found: Forecast) -> SweepPlan:
    """The plan of a model's sweep; ``found`` is that of one training, ``rows`` what it reads.

    Raises ValueError where no trial could ever start, or a bound could never be kept.
    """
    model = spec.model(name)
    tune = model.tune
    assert tune is not None
    room = room_of(spec, name)
    price = trial_price(spec, name, room.workers)
    trials = num_trials(tune)
    counted = rows or _nominal_rows(model)
    if counted is None:
        return SweepPlan(
            room, trials, [("unknown before the data is prepared", trials)], *[None] * 3
        )
    ladder = Ladder(tune, model.train, counted)
    steps = ladder.steps(model.train)
    legs = expected(tune.model_copy(update={"trials": trials}), len(ladder))
    told = [_until(rows, model, step) for step in steps]
    rungs = [(told[rung], legs[rung]) for rung in range(len(steps))]
    if rows is None and model.train.steps is None:
        return SweepPlan(room, trials, rungs, *[None] * 3)
    total = sum((steps[r] - ([0, *steps])[r]) * count for r, count in legs.items())
    seconds = pace = None
    if found.speed is not None:
        pace = pace_before(found, room)
        seconds = seconds_left(legs, steps, pace, room.parallel)
    paid = None
    if seconds is not None and price is not None:
        paid = cost(seconds * room.parallel, price)
    return SweepPlan(room, trials, rungs, total, seconds, paid)


def check_sweep(spec: Spec, name: str) -> None:
    """Raise ValueError where no trial could ever start, or a bound could never be kept."""
    trial_price(spec, name, room_of(spec, name).workers)
    num_trials(_tune_of(spec, name))


def _tune_of(spec: Spec, name: str) -> TuneSpec:
    tune = spec.model(name).tune
    assert tune is not None
    return tune


def pace_before(found: Forecast, room: Room) -> Pace:
    """The pace of trials before any is timed; on CPUs those at once share what there is."""
    assert found.speed is not None
    shares = not (found.pool and found.pool.accelerators)
    return Pace(START_S, found.speed.step_s * (room.parallel if shares else 1))


def as_forecast(spec: Spec, name: str, plan: SweepPlan, found: Forecast) -> Forecast:
    """The sweep in place of the training in a plan's sums: as many hours, on all its nodes."""
    if plan.seconds is None or found.speed is None:
        return replace(found, steps=None)
    steps = round(plan.seconds / found.speed.step_s)
    return replace(found, steps=steps, nodes=num_nodes(spec, spec.model(name), plan.room.total))


def num_trials(tune: TuneSpec) -> int:
    """Trials of a sweep: of a grid no more than it has points."""
    if tune.search.type != "grid":
        return tune.trials
    return min(tune.trials, grid_size(tune.space))


def summary(tune: TuneSpec) -> str:
    """What is searched how, in a few words."""
    search: Search = tune.search
    return f"{num_trials(tune)} trials by {search.type}, scheduler {tune.scheduler.type}"


def _nominal_rows(model: ModelSpec) -> int | None:
    """Rows that make the rungs right before any are counted; None where units are mixed."""
    assert model.tune is not None
    scheduler = model.tune.scheduler
    amounts: list[Amount] = []
    if not isinstance(scheduler, NoScheduler):
        amounts.append(scheduler.every if isinstance(scheduler, PBT) else scheduler.grace)
    if isinstance(scheduler, ASHA) and scheduler.max is not None:
        amounts.append(scheduler.max)
    length = "steps" if model.train.steps is not None else "epochs"
    if any(amount.unit not in (length, "share") for amount in amounts):
        return None
    return NOMINAL_STEPS * model.train.global_batch


def _until(rows: int | None, model: ModelSpec, step: int) -> str:
    if rows is not None or model.train.steps is not None:
        return f"step {step:,}"
    return str(Amount(round(step / NOMINAL_STEPS, 3), "epochs"))
