"""What each version answered adds up over replicas, those that ended too."""

from __future__ import annotations

import time

from serve.figures import Collected, Figures


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def counted(version: str, *answers: tuple[int, float]) -> Figures:
    figures = Figures()
    for status, ms in answers:
        figures.observe(version, status, ms)
    return figures


def test_latencies_and_errors_by_version() -> None:
    own = counted("m@1", *[(200, 3.0)] * 98, (200, 150.0), (503, 1.0), (422, 1.0))
    found = Collected().summary(own.counts)["m@1"]
    assert time.time() - found.pop("last") < 60
    assert found == {"requests": 101, "errors": 1, "refused": 1, "p50_ms": 5.0, "p99_ms": 200.0}


def test_a_replica_that_ended_still_counts_and_none_counts_twice() -> None:
    clock = Clock()
    collected = Collected(clock)
    collected.take("a", counted("m@1", (200, 1.0)).counts)
    collected.take("a", counted("m@1", (200, 1.0), (200, 1.0)).counts)
    clock.now = 100.0
    collected.take("b", counted("m@1", (200, 1.0)).counts)
    collected.take("c", counted("m@2", (500, 1.0)).counts)
    found = collected.summary({})
    assert (found["m@1"]["requests"], found["m@2"]["errors"]) == (3, 1)
    assert found["m@2"]["p50_ms"] is None
    assert found["m@1"]["last"]
    assert found["m@2"]["last"] is None  # it answered nobody
