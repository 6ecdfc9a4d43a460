"""Population based training: who goes on from whom, with which values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from cluster.spec import parse_model
from tune.history import History
from tune.population import changed, exchange, is_due
from tune.rungs import START, Ladder, Leg, next_leg
from tune.space import contains

MODEL: dict[str, Any] = {
    "domain": "text",
    "task": "generation",
    "data": "builtin:python-docs",
    "train": {"steps": 25},
    "tune": {
        "trials": 6,
        "search": "random",
        "scheduler": {"type": "pbt", "every": "10 steps", "share": "34%"},
        "space": {
            "train.optimizer.lr": {"log": [1e-5, 1e-1]},
            "train.clip": {"uniform": [0.5, 2.0]},
            "train.optimizer.betas": [[0.9, 0.95], [0.9, 0.99], [0.9, 0.999]],
            "network.width": [64, 128],
        },
    },
}


def played(parallel: int, fails: int | None = None) -> History:
    """A sweep whose scores are the trial's numbers, and whose legs end in random order."""
    model, history, under_way = parse_model(MODEL), History(), list[Leg]()
    assert model.tune is not None
    dice, rungs = random.Random(parallel), 3
    for _ in range(500):
        rung = is_due(model.tune, history, rungs)
        if rung is not None:
            assert not under_way
            history.add(exchange(model.tune, history, rung, higher=True))
        leg = next_leg(model.tune, history, {leg.trial for leg in under_way}, rungs, True)
        if leg == START:
            number = len(history.trials)
            values = {"train.optimizer.lr": 1e-3, "train.clip": 1.0, "network.width": 64}
            values["train.optimizer.betas"] = [0.9, 0.99]  # type: ignore[assignment]
            history.add({"event": "trial", "trial": number, "values": values})
            leg = Leg(number, 0)
        if leg is not None:
            under_way.append(leg)
        if not under_way:
            return history
        if leg is None or len(under_way) == parallel:
            done = under_way.pop(dice.randrange(len(under_way)))
            event = {"trial": done.trial, "rung": done.rung, "seconds": 1.0}
            if done == Leg(fails if fails is not None else -1, 1):
                history.add(event | {"event": "failed", "reason": "it diverged"})
                continue
            told = {"score": float(done.trial), "step": 10 * done.rung, "run": f"r{done.trial}"}
            history.add(event | {"event": "score"} | told)
    raise AssertionError("the sweep does not end")


def test_rungs_are_at_every_multiple() -> None:
    model = parse_model(MODEL)
    assert model.tune is not None
    ladder = Ladder(model.tune, model.train, 320)
    assert ladder.steps(model.train) == [10, 20, 25]


@pytest.mark.parametrize("parallel", [1, 2, 6])
def test_the_worst_go_on_from_the_best_whatever_the_timing(parallel: int) -> None:
    history = played(parallel)
    assert sorted(history.exchanged) == [0, 1]
    assert [t.rung for t in history.trials.values()] == [2] * 6
    assert {n: t.stretches for n, t in history.trials.items()} == {
        n: t.stretches for n, t in played(3).trials.items()
    }
    for number in (0, 1):
        since = [s.since for s in history.trials[number].stretches]
        assert since == [0, 1, 2]
        origin = history.trials[number].stretches[1].origin
        assert origin is not None
        assert origin.run in ("r4", "r5")
        assert origin.step == 0
    assert all(len(history.trials[n].stretches) == 1 for n in (2, 3, 4, 5))


def test_a_member_that_fails_stops_nobody() -> None:
    history = played(2, fails=3)
    assert history.trials[3].failed
    assert [t.rung for n, t in history.trials.items() if n != 3] == [2] * 5


def test_changed_values_stay_in_the_space_and_keep_what_cannot_change() -> None:
    tune = parse_model(MODEL).tune
    assert tune is not None
    dice = np.random.default_rng(0)
    values: dict[str, Any] = {
        "train.optimizer.lr": 0.09,
        "train.clip": 1.0,
        "train.optimizer.betas": [0.9, 0.99],
        "network.width": 128,
    }
    made = [changed(tune.space, values, dice) for _ in range(200)]
    assert all(contains(tune.space, each) for each in made)
    assert {each["network.width"] for each in made} == {128}
    assert len({each["train.clip"] for each in made}) > 20
    moved = sum(each["train.clip"] in (0.8, 1.2) for each in made) / len(made)
    assert 0.65 < moved < 0.85
    assert max(each["train.optimizer.lr"] for each in made) == 0.1


def test_the_best_is_what_led_to_its_score() -> None:
    history = played(1)
    trial = history.trials[0]
    assert trial.stretch_at(0).origin is None
    assert trial.stretch_at(1) == trial.stretches[1]
    assert trial.stretch_at(2) == trial.stretches[2]
