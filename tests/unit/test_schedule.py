"""Learning rates and step counts."""

import math
from typing import Any

import pytest

from cluster.spec import TrainSpec
from jobs.schedule import learning_rate, num_steps, steps_per_epoch, warmup_steps


def train(**keys: Any) -> TrainSpec:
    return TrainSpec.model_validate(keys)


def test_epochs_become_steps_rounded_up() -> None:
    spec = train(epochs=1.5, global_batch=32)
    assert steps_per_epoch(spec, 100) == 4
    assert num_steps(spec, 100) == math.ceil(150 / 32)
    assert num_steps(train(epochs=0.001), 100) == 1
    assert num_steps(train(steps=7), 100) == 7


def test_warmup_of_a_share() -> None:
    spec = train(steps=200, schedule={"warmup": "5%"})
    assert warmup_steps(spec, 100) == 10
    assert warmup_steps(train(steps=200), 100) == 0


def test_warmup_rises_without_ever_being_zero() -> None:
    spec = train(steps=100, optimizer={"lr": 1.0})
    rates = [learning_rate(spec, step, 100, 10) for step in range(11)]
    assert rates[0] > 0
    assert rates == sorted(rates)
    assert rates[10] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_decay_ends_at_its_share(kind: str) -> None:
    spec = train(steps=100, optimizer={"lr": 2.0}, schedule={"type": kind, "final": 0.25})
    rates = [learning_rate(spec, step, 100, 0) for step in range(101)]
    assert rates[0] == pytest.approx(2.0)
    assert rates[50] == pytest.approx((2.0 + 0.5) / 2)
    assert rates[100] == pytest.approx(0.5)
    assert rates == sorted(rates, reverse=True)


def test_constant_keeps_all() -> None:
    spec = train(steps=100, optimizer={"lr": 2.0}, schedule="constant")
    assert {learning_rate(spec, step, 100, 0) for step in range(100)} == {2.0}
