"""Who trains next: decisions from histories alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cluster.spec import parse_model
from tune.history import History, replay
from tune.rungs import START, Ladder, Leg, is_below_median, next_leg

MODEL: dict[str, Any] = {"domain": "text", "task": "generation", "data": "builtin:python-docs"}
SPACE = {"train.optimizer.lr": {"log": [1e-5, 1e-1]}}


def model_of(tune: dict[str, Any], **train: Any) -> Any:
    return parse_model(MODEL | {"train": train, "tune": {"space": SPACE} | tune})


def ladder_of(tune: dict[str, Any], **train: Any) -> Ladder:
    model = model_of(tune, **train)
    return Ladder(model.tune, model.train, 320)


@pytest.mark.parametrize(
    ("scheduler", "train", "steps"),
    [
        ({"type": "asha", "grace": "10 steps"}, {"steps": 90}, [10, 30, 90]),
        ({"type": "asha", "grace": "10 steps"}, {"steps": 100}, [10, 30, 100]),
        ({"type": "asha", "grace": "10 steps"}, {"steps": 15}, [10, 15]),
        ({"type": "asha", "grace": "10 steps"}, {"steps": 10}, [10]),
        ({"type": "asha", "grace": "1 epoch"}, {"epochs": 9.0}, [10, 30, 90]),
        ({"type": "asha", "grace": "10 steps", "max": "30 steps"}, {"steps": 90}, [10, 30]),
        ({"type": "asha", "grace": "10 steps", "reduction": 2}, {"steps": 40}, [10, 20, 40]),
        ({"type": "median", "grace": "10 steps"}, {"steps": 25}, [10, 20, 25]),
        ({"type": "none"}, {"steps": 25}, [25]),
    ],
)
def test_rungs(scheduler: dict[str, Any], train: dict[str, Any], steps: list[int]) -> None:
    ladder = ladder_of({"scheduler": scheduler}, **train)
    assert ladder.steps(ladder.train) == steps
    assert len(ladder) == len(steps)


def test_a_trial_with_another_batch_has_as_many_rungs() -> None:
    ladder = ladder_of({"scheduler": {"type": "asha", "grace": "1 epoch"}}, epochs=9.0)
    other = model_of({}, epochs=9.0, global_batch=16).train
    assert ladder.steps(other) == [20, 60, 180]


def run_sweep(tune: Any, num_rungs: int, score: Any, parallel: int, higher: bool) -> History:
    """Play a sweep: legs end in random order."""
    history, under_way, dice = History(), list[Leg](), random.Random(parallel)
    for _ in range(1000):
        busy = {leg.trial for leg in under_way}
        leg = next_leg(tune, history, busy, num_rungs, higher)
        if leg == START:
            number = len(history.trials)
            history.add({"event": "trial", "trial": number, "values": {}})
            leg = Leg(number, 0)
        if leg is not None:
            under_way.append(leg)
        if not under_way:
            return history
        if leg is None or len(under_way) == parallel:
            done = under_way.pop(dice.randrange(len(under_way)))
            event = {"event": "score", "trial": done.trial, "rung": done.rung, "seconds": 1.0}
            history.add(event | {"score": score(done), "step": done.rung, "run": "r"})
    raise AssertionError("the sweep does not end")


@pytest.mark.parametrize("parallel", [1, 2, 4])
@pytest.mark.parametrize("trials", [1, 2, 8, 27])
@pytest.mark.parametrize("higher", [True, False])
def test_asha_ends_with_the_best_trial_at_the_top(trials: int, parallel: int, higher: bool) -> None:
    tune = model_of({"trials": trials, "scheduler": "asha"}).tune
    ranks = list(range(trials))
    random.Random(trials).shuffle(ranks)
    sign = 1 if higher else -1
    history = run_sweep(tune, 3, lambda leg: sign * (ranks[leg.trial] + leg.rung), parallel, higher)
    best = history.best(higher)
    assert best is not None
    assert ranks[best.number] == trials - 1
    assert len(history.trials) == trials
    whole = [t for t in history.trials.values() if t.rung == 2]
    assert best.rung == 2 or not higher
    assert 1 <= len(whole) <= max(1, trials // 3)


def test_without_a_scheduler_every_trial_trains_to_its_end() -> None:
    tune = model_of({"trials": 5, "scheduler": "none"}).tune
    history = run_sweep(tune, 1, lambda leg: leg.trial, 2, True)
    assert [t.rung for t in history.trials.values()] == [0] * 5


def test_a_trial_that_was_cut_off_or_failed() -> None:
    tune = model_of({"trials": 2, "scheduler": "asha"}).tune
    started = {"event": "trial", "trial": 0, "values": {}}
    assert next_leg(tune, replay([started]), set(), 3, True) == Leg(0, 0)
    assert next_leg(tune, replay([started]), {0}, 3, True) == START
    failed = {"event": "failed", "trial": 0, "rung": 0, "reason": "it diverged", "seconds": 1.0}
    history = replay([started, failed, {"event": "end", "reason": "time"}])
    assert next_leg(tune, history, set(), 3, True) is None


def test_below_the_median() -> None:
    tune = model_of({"scheduler": {"type": "median", "trials": 3}}).tune
    history = History()
    for number, score in enumerate([0.5, 0.6, 0.7, 0.55, 0.9]):
        history.add({"event": "trial", "trial": number, "values": {}})
        event = {"event": "score", "trial": number, "rung": 0, "step": 1, "run": "r"}
        history.add(event | {"score": score, "seconds": 1.0})
    below = [is_below_median(tune, history, t, True) for t in history.trials.values()]
    assert below == [True, True, False, True, False]
