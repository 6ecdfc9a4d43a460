"""When a sweep ends, and what its table says on the way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cluster.spec import Money, parse_model
from tune.bounds import causes, reason_to_end
from tune.cost import Pace, cost, expected, pace_of, remaining, seconds_left
from tune.history import History, replay
from tune.rungs import Leg
from tune.table import heading, line

SPACE = {"train.optimizer.lr": {"log": [1e-5, 1e-1]}}
PRICE = Money(36.0, "USD", "h")


def tune_of(**section: Any) -> Any:
    document = {"domain": "text", "task": "generation", "data": "builtin:python-docs"}
    model = parse_model(document | {"tune": {"space": SPACE, **section}})
    return model.tune


def scored(scores: list[float], seconds: float = 10.0, steps: int = 5) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"event": "opened", "time": 0.0}]
    for number, score in enumerate(scores):
        values = {"train.optimizer.lr": 1e-3}
        events.append({"event": "trial", "trial": number, "values": values, "time": 1.0})
        told = {"score": score, "step": steps, "run": "r", "seconds": seconds, "time": 2.0}
        events.append({"event": "score", "trial": number, "rung": 0} | told)
    return events


def ends(history: History, now: float = 2.0, price: Money | None = None, **section: Any) -> Any:
    return reason_to_end(tune_of(**section), history, True, price, now)


def test_time_counts_over_all_drivers() -> None:
    events = [*scored([0.5]), {"event": "opened", "time": 1000.0}]
    history = replay([*events, {"event": "stopped", "trial": 0, "time": 1050.0}])
    assert history.elapsed_s() == 52.0
    assert ends(replay(events), 1057.0, time="60s") is None
    assert ends(replay(events), 1059.0, time="60s") == "tune.time: 60 s are over"


def test_money() -> None:
    history = replay(scored([0.5, 0.6, 0.7], seconds=200.0))
    assert cost(history.spent_s, PRICE) == Money(6.0, "USD")
    assert ends(history, price=PRICE, cost="6.1 USD") is None
    assert ends(history, price=PRICE, cost="6 USD") == "tune.cost: 6 USD of 6 USD are spent"
    assert ends(history, price=PRICE) is None


def test_failures_name_what_they_have_in_common() -> None:
    history = replay(scored([0.5]))
    reasons = ["the loss at step 5 is nan", "out of memory", "the loss at step 9 is nan"]
    for number, reason in enumerate(reasons, start=1):
        history.add({"event": "trial", "trial": number, "values": {}})
        failed = {"event": "failed", "trial": number, "rung": 0, "reason": reason}
        history.add(failed | {"seconds": 1.0})
    told = "3 of 4 trials failed, most often: the loss at step 5 is nan (2 of them)"
    assert ends(history) == told
    assert ends(history, failures="80%") is None
    assert causes(reasons) == [("the loss at step 5 is nan", 2), ("out of memory", 1)]


def test_patience() -> None:
    history = replay(scored([0.5, 0.9, 0.6, 0.7]))
    assert ends(history, patience=2) == "no better trial"
    assert ends(history, patience=3) is None


def test_what_is_left_is_played_from_where_it_stands() -> None:
    tune = tune_of(trials=9, scheduler={"type": "asha"})
    whole = expected(tune, 3)
    assert whole[0] == 9
    assert whole[0] > whole[1] > whole[2] >= 1
    history = replay(scored([0.1 * n for n in range(9)]))
    left = remaining(tune, history, 3, True)
    assert left[0] == 0
    assert left[1] == 3
    none = tune_of(trials=3, scheduler="none")
    assert remaining(none, replay(scored([1.0])), 1, True) == Counter({0: 2})


def test_pace_tells_the_start_from_the_steps() -> None:
    history = replay(scored([0.5, 0.6], seconds=20.0, steps=10))
    longer = {"event": "score", "trial": 0, "rung": 1, "score": 0.7, "step": 40, "run": "r"}
    history.add(longer | {"seconds": 40.0})
    pace = pace_of(history)
    assert pace is not None
    assert (pace.start_s, pace.step_s) == pytest.approx((10.0, 1.0))
    assert seconds_left(Counter({1: 2}), [10, 40], pace, 2) == pytest.approx(40.0)
    assert pace_of(History()) is None


def test_the_table_says_how_far_how_good_how_long_and_for_how_much() -> None:
    history, tune = replay(scored([0.5, 0.25])), tune_of(trials=4, scheduler="none")
    head = heading("macro_f1", priced=True)
    row = line(history, Leg(1, 0), tune, True, [5], 2, Pace(10.0, 0.0), PRICE)
    assert head.split() == [
        "trial",
        "rung",
        "step",
        "macro_f1",
        "best",
        "so",
        "far",
        "left",
        "cost",
        "so",
        "far",
        "values",
    ]
    assert row.split() == [
        "1",
        "0",
        "5",
        "0.25",
        "0.5",
        "(trial",
        "0)",
        "10",
        "s",
        "0.2",
        "USD",
        "lr=0.001",
    ]
    assert row.index("lr=") == head.index("values")
    failed = {"event": "failed", "trial": 2, "rung": 0, "reason": "x", "seconds": 100.0}
    history.add({"event": "trial", "trial": 2, "values": {}})
    history.add(failed)
    history.add({"event": "end", "reason": "tune.time: 60 s are over"})
    row = line(history, Leg(2, 0), tune, True, [5], 2, None)
    assert " ".join(row.split()) == "2 0 failed 0.5 (trial 0) 0 s 2 min"
