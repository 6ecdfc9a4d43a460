"""The watch over workers: who is alive, who is stuck, and who only waits."""

from typing import Any

import pytest

from jobs.fit import Restarts
from jobs.pulse import Pulse
from jobs.watch import Place, Seen, Watch, is_stalled, to_blame, verdict

WAITS = '  File "torch/distributed/distributed_c10d.py", line 2, in all_reduce\n'
WORKS = '  File "jobs/feed.py", line 9, in next\n'


def place(rank: int) -> Place:
    return Place(rank, f"host-{rank}", f"node-{rank}", 100 + rank, 1.0)


def seen(rank: int, heard: float, moved: float, phase: str = "training", **more: Any) -> Seen:
    return Seen(place(rank), 7, phase, heard, moved, **more)


def test_what_the_watch_hears() -> None:
    now = [0.0]
    watch = Watch(lambda: now[0])
    watch.begin("a")
    assert watch.report("a", place(1), 0, "starting", None) == {}
    watch.order(leave="SIGTERM")
    for now[0], beats in ((2.0, 1), (4.0, 1), (6.0, 1)):
        assert watch.report("a", place(0), beats, "training", None) == {"leave": "SIGTERM"}
    at, [first, second] = watch.look()
    assert at == 6.0
    assert (first.place.rank, first.heard, first.moved) == (0, 6.0, 2.0)
    assert (second.place.rank, second.heard) == (1, 0.0)
    watch.begin("b")  # one process hears the groups of a driver, one after the other
    assert watch.look() == (6.0, [])
    assert "leave" in watch.report("a", place(0), 2, "training", None)
    assert watch.report("b", place(0), 0, "starting", None) == {}
    assert len(watch.look()[1]) == 1


@pytest.mark.parametrize(
    ("now", "workers", "stalls"),
    [
        (31.0, [seen(0, 30, 10), seen(1, 12, 9)], True),
        (29.0, [seen(0, 28, 10), seen(1, 12, 9)], False),
        (99.0, [seen(0, 98, 10), seen(1, 98, 95)], False),
        (99.0, [seen(0, 98, 10), seen(1, 98, 9, "validation")], False),
        (99.0, [seen(0, 98, 90, "saving"), seen(1, 70, 70, "saving")], True),
        (99.0, [seen(0, 98, 10)], False),
    ],
)
def test_when_a_group_is_stalled(now: float, workers: list[Seen], stalls: bool) -> None:
    assert is_stalled(now, workers, 2, 20.0) is stalls


def test_the_silent_worker_is_to_blame() -> None:
    workers = [seen(0, 30, 10, stack=WAITS), seen(1, 12, 10)]
    assert [each.place.rank for each in to_blame(31.0, workers)] == [1]
    text = verdict(31.0, to_blame(31.0, workers), 20.0)
    assert text == "no step for 20 s: worker 1 on host-1 (process 101) does not answer"


def test_or_the_one_that_waits_for_nobody() -> None:
    workers = [seen(0, 30, 10, stack=WAITS), seen(1, 30, 10, stack=WORKS)]
    assert "worker 1 on host-1 (process 101) is stuck" in verdict(31, to_blame(31, workers), 20)
    both = [seen(0, 30, 10, stack=WAITS), seen(1, 30, 10, stack=WAITS)]
    assert len(to_blame(31.0, both)) == 2


def test_a_pulse() -> None:
    pulse = Pulse()
    pulse.step()
    assert (pulse.phase, pulse.beats) == ("training", 1)
    with pulse.busy("validation"):
        assert pulse.phase == "validation"
    assert (pulse.phase, pulse.beats) == ("training", 2)
    pulse.leave("first")
    pulse.leave("second")
    assert pulse.leaving == "first"
    assert "test_a_pulse" in pulse.stack()


def test_restarts_are_counted_between_checkpoints() -> None:
    restarts = Restarts(2)
    assert [restarts.another(step) for step in (0, 0, 5, 5, 5)] == [True, True, True, True, False]
    assert not Restarts(0).another(3)
