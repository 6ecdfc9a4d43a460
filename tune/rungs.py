"""Who trains next and how far: pure decisions from a sweep's history.

ASHA is asynchronous successive halving (Li et al., arXiv 1810.05934): a trial stops at each rung
and goes on where it is among the best 1/reduction of those that have reached it. A trial that
waits holds nothing but its checkpoint.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from cluster.spec.train import TrainSpec
from cluster.spec.tune import ASHA, PBT, Median, NoScheduler, TuneSpec
from jobs.schedule import num_steps, steps_per_epoch
from tune.history import History, Trial


@dataclass(frozen=True)
class Leg:
    """A trial to be trained up to a rung."""

    trial: int
    rung: int


START = Leg(-1, 0)
"""A new trial, which is yet to be suggested."""


@dataclass(frozen=True)
class Ladder:
    """How many rungs there are, and where: the same for all trials of a sweep."""

    tune: TuneSpec
    train: TrainSpec
    num_rows: int

    def steps(self, train: TrainSpec) -> list[int]:
        """Steps of the optimizer at each rung, for a trial's own section ``train``."""
        total, epoch = num_steps(train, self.num_rows), steps_per_epoch(train, self.num_rows)
        scheduler = self.tune.scheduler
        if isinstance(scheduler, NoScheduler):
            return [total]
        first = scheduler.every if isinstance(scheduler, PBT) else scheduler.grace
        grace, most = min(total, first.in_steps(epoch, total)), len(self)
        if isinstance(scheduler, Median | PBT):
            return [*(grace * rung for rung in range(1, most)), total]
        end = min(total, scheduler.max.in_steps(epoch, total)) if scheduler.max else total
        return [min(end, grace * scheduler.reduction**rung) for rung in range(most - 1)] + [end]

    def __len__(self) -> int:
        """Number of rungs, by the file's own section ``train``."""
        scheduler, train = self.tune.scheduler, self.train
        if isinstance(scheduler, NoScheduler):
            return 1
        total, epoch = num_steps(train, self.num_rows), steps_per_epoch(train, self.num_rows)
        first = scheduler.every if isinstance(scheduler, PBT) else scheduler.grace
        grace = min(total, first.in_steps(epoch, total))
        if isinstance(scheduler, Median | PBT):
            return -(-total // grace)
        end = min(total, scheduler.max.in_steps(epoch, total)) if scheduler.max else total
        between = 0  # a last rung just below the end would tell nothing new
        while grace * scheduler.reduction ** (between + 1) <= end:
            between += 1
        return 1 + max(between, int(grace < end))


def next_leg(
    tune: TuneSpec, history: History, busy: set[int], num_rungs: int, higher: bool
) -> Leg | None:
    """What to train next beside the trials in ``busy``; None where nothing can be decided yet.

    Where None comes with nothing under way, the sweep is complete.
    """
    free = [
        trial
        for trial in history.trials.values()
        if not trial.failed and not trial.stopped and trial.number not in busy
    ]
    for trial in sorted(free, key=lambda t: t.number):
        if not trial.scores:
            return Leg(trial.number, 0)  # suggested, but cut off before its first rung
    scheduler = tune.scheduler
    if not isinstance(scheduler, PBT):  # a population starts whole, and goes on together
        leg = _promoted(scheduler, history, free, num_rungs, higher)
        if leg is not None:
            return leg
    if len(history.trials) < tune.trials and history.ended is None:
        return START
    if isinstance(scheduler, PBT):
        return _together(history, free, num_rungs)
    if busy or not isinstance(scheduler, ASHA):
        return None
    return _last(history, free, num_rungs, higher)


def _together(history: History, free: list[Trial], num_rungs: int) -> Leg | None:
    """A member of a population on its lowest rung, once it has exchanged its checkpoints there."""
    lowest = min((t.rung for t in history.trials.values() if not t.failed), default=num_rungs)
    if lowest >= num_rungs - 1 or lowest not in history.exchanged:
        return None
    behind = [t.number for t in free if t.rung == lowest]
    return Leg(min(behind), lowest + 1) if behind else None


def _promoted(
    scheduler: ASHA | Median | NoScheduler,
    history: History,
    free: list[Trial],
    num_rungs: int,
    higher: bool,
) -> Leg | None:
    """The trial that has earned its next rung, the furthest first."""
    if isinstance(scheduler, Median | NoScheduler):
        going = [t for t in free if t.rung < num_rungs - 1]
        return Leg(going[0].number, going[0].rung + 1) if going else None
    for rung in range(num_rungs - 2, -1, -1):
        reached = [t for t in history.trials.values() if rung in t.scores]
        best = ranked(reached, rung, higher)[: len(reached) // scheduler.reduction]
        for trial in best:
            if trial in free and trial.rung == rung:
                return Leg(trial.number, rung + 1)
    return None


def _last(history: History, free: list[Trial], num_rungs: int, higher: bool) -> Leg | None:
    """Few trials leave the last rungs empty: then the best of all climbs on alone."""
    top = max((t.rung for t in history.trials.values()), default=-1)
    if top < 0 or top >= num_rungs - 1:
        return None
    best = ranked([t for t in free if t.rung == top], top, higher)
    return Leg(best[0].number, top + 1) if best else None


def ranked(trials: list[Trial], rung: int, higher: bool) -> list[Trial]:
    """Trials by their score at a rung, the best first."""
    sign = -1.0 if higher else 1.0
    return sorted(trials, key=lambda t: (sign * t.scores[rung], t.number))


def is_below_median(tune: TuneSpec, history: History, trial: Trial, higher: bool) -> bool:
    """Whether a trial ends at the rung it has reached (Golovin et al., KDD 2017, section 3.2)."""
    if not isinstance(tune.scheduler, Median):
        return False
    others = [
        t.scores[trial.rung]
        for t in history.trials.values()
        if t.number != trial.number and trial.rung in t.scores
    ]
    if len(others) < tune.scheduler.trials:
        return False
    median, score = statistics.median(others), trial.scores[trial.rung]
    return score < median if higher else score > median
