"""The log of a sweep: written once, and all that is known."""

from __future__ import annotations

import pytest

from cluster.storage import Storage
from tune.history import Log, replay

EVENTS = [
    {"event": "trial", "trial": 0, "values": {"a": 1}},
    {"event": "score", "trial": 0, "rung": 0, "step": 5, "score": 0.5, "seconds": 2.0, "run": "r"},
    {"event": "trial", "trial": 1, "values": {"a": 2}},
    {"event": "failed", "trial": 1, "rung": 0, "reason": "out of memory", "seconds": 1.0},
    {"event": "end", "reason": "time"},
]


def test_events_come_back_in_order(storage: Storage) -> None:
    log = Log(storage, "m-tune-1")
    assert log.read() == []
    for event in EVENTS:
        log.append(dict(event))
    again = Log(storage, "m-tune-1")
    assert again.read() == EVENTS
    history = replay(EVENTS)
    assert history.trials[0].scores == {0: 0.5}
    assert history.trials[1].failed == "out of memory"
    assert history.ended == "time"
    assert history.order == [(0, 0)]


def test_a_driver_that_was_replaced_writes_nothing(storage: Storage) -> None:
    old, new = Log(storage, "m-tune-1"), Log(storage, "m-tune-1")
    old.read()
    new.read()
    new.append(dict(EVENTS[0]))
    with pytest.raises(ValueError, match="taken this sweep over"):
        old.append(dict(EVENTS[2]))
    assert Log(storage, "m-tune-1").read() == EVENTS[:1]


def test_a_score_counts_once() -> None:
    second = EVENTS[1] | {"score": 0.9}
    history = replay([*EVENTS[:2], second])
    assert history.trials[0].scores == {0: 0.5}
    assert history.order == [(0, 0)]


def test_the_best_of_equals_was_trained_furthest() -> None:
    more = {"event": "score", "trial": 1, "step": 5, "score": 0.5, "seconds": 2.0, "run": "r"}
    history = replay([*EVENTS[:3], more | {"rung": 0}, more | {"rung": 1}])
    best = history.best(higher=True)
    assert best is not None
    assert best.number == 1
    assert replay([]).best(higher=True) is None
