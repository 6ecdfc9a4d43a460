"""Suggestions: within the space, the same after a restart, better than chance where they learn."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from cluster.spec import parse_model
from cluster.spec.space import holds
from tune.history import History
from tune.search import suggest
from tune.space import grid_size, is_active, ordered

MODEL: dict[str, Any] = {"domain": "text", "task": "generation", "data": "builtin:python-docs"}
SPACE: dict[str, Any] = {
    "network.layers": {"int": "1..3", "when": {"network.style": "llama"}},
    "train.optimizer.lr": {"log": [1e-5, 1e-1]},
    "network.style": ["gpt2", "llama"],
    "train.clip": {"uniform": [0.5, 2.0]},
    "train.global_batch": {"logint": "8..64"},
    "train.optimizer.betas": [[0.9, 0.95], [0.9, 0.999]],
}


def tune_of(search: Any, space: dict[str, Any] = SPACE, **more: Any) -> Any:
    model = parse_model(MODEL | {"tune": {"space": space, "search": search} | more})
    return model.tune


def with_scores(tune: Any, count: int, score: Any, higher: bool = False) -> History:
    history = History()
    for number in range(count):
        values = suggest(tune, number, history, higher)
        history.add({"event": "trial", "trial": number, "values": values})
        event = {"event": "score", "trial": number, "rung": 0, "step": 1, "run": "r"}
        history.add(event | {"score": score(values), "seconds": 1.0})
    return history


def test_keys_come_after_those_they_depend_on() -> None:
    keys = ordered(tune_of("random").space)
    assert keys.index("network.style") < keys.index("network.layers")
    assert sorted(keys) == sorted(SPACE)


@pytest.mark.parametrize("search", ["random", "sobol", "tpe", "gp"])
def test_values_lie_in_the_space_and_repeat_after_a_restart(search: str) -> None:
    tune = tune_of({"type": search, "startup": 3})
    count = 16 if search in ("random", "sobol") else 6
    history = with_scores(tune, count, lambda values: values["train.optimizer.lr"])
    again = History()
    for number, trial in history.trials.items():
        for key, dimension in tune.space.items():
            assert (key in trial.values) == is_active(dimension, trial.values)
            assert key not in trial.values or holds(dimension, trial.values[key])
        assert suggest(tune, number, again, False) == trial.values
        again.add({"event": "trial", "trial": number, "values": trial.values})
        event = {"event": "score", "trial": number, "rung": 0, "step": 1, "run": "r"}
        again.add(event | {"score": trial.scores[0], "seconds": 1.0})


def test_a_logarithmic_range_is_even_over_magnitudes() -> None:
    tune = tune_of("random", {"train.optimizer.lr": {"log": [1e-4, 1e-1]}})
    found = [suggest(tune, n, History(), False) or {} for n in range(600)]
    decades = Counter(math.floor(math.log10(v["train.optimizer.lr"])) for v in found)
    assert all(150 < decades[d] < 250 for d in (-4, -3, -2))


def test_a_grid_is_every_point_once() -> None:
    space = {k: SPACE[k] for k in ("network.style", "network.layers")}
    tune = tune_of("grid", space)
    history, points = History(), []
    for number in range(5):
        points.append(suggest(tune, number, history, False))
        history.add({"event": "trial", "trial": number, "values": points[-1] or {}})
    assert points == [
        {"network.style": "gpt2"},
        *({"network.style": "llama", "network.layers": n} for n in (1, 2, 3)),
        None,
    ]
    assert grid_size(tune.space) == 4
    with pytest.raises(ValueError, match=r"train.optimizer.lr is a range"):
        suggest(tune_of("grid"), 0, History(), False)


def test_known_points_come_first() -> None:
    tune = tune_of("tpe", points=[{"train.optimizer.lr": 0.003}])
    values = suggest(tune, 0, History(), False)
    assert values is not None
    assert values["train.optimizer.lr"] == 0.003
    assert "train.clip" in values


@pytest.mark.parametrize("higher", [True, False])
def test_tpe_learns(higher: bool) -> None:
    space = {k: SPACE[k] for k in ("train.optimizer.lr", "train.clip")}
    sign = -1 if higher else 1

    def score(values: dict[str, Any]) -> float:
        return sign * (abs(math.log10(values["train.optimizer.lr"]) + 3) + values["train.clip"])

    ends = {}
    for search in ("random", "tpe"):
        best = with_scores(tune_of(search, space), 40, score, higher).best(higher)
        assert best is not None
        ends[search] = sign * best.scores[0]
    assert ends["tpe"] < ends["random"]
