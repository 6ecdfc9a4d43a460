"""A job that is silent is asked after, and each reason is told once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cluster.connection import ClusterError
from cluster.status import Waiting
from jobs.verbs.waits import Waits

MINE = Waiting("group", "m-1", {"GPU": 8}, "waiting for 8 GPUs: the cluster has 0")
OTHERS = Waiting("group", "other-1", {"GPU": 1}, "waiting for 1 GPU")
ALL = Waiting("gpu", None, {}, "nodes of gpu: the cloud has none; name others")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def test_a_silent_job_is_explained_once() -> None:
    told: list[str] = []
    looks = threading.Semaphore(0)

    def look() -> list[Waiting]:
        looks.release()
        return [MINE, OTHERS, ALL]

    with Waits(look, "m-1", told.append, quiet_s=0.01):
        assert looks.acquire(timeout=5)
        assert looks.acquire(timeout=5)  # a second look tells nothing new
        wait_until(lambda: len(told) == 2)
    assert told == [
        "waiting: m-1 (8 GPUs): waiting for 8 GPUs: the cluster has 0",
        "waiting: nodes of gpu: the cloud has none; name others",
    ]


def test_a_job_that_prints_is_left_alone() -> None:
    asked: list[bool] = []

    def look() -> list[Waiting]:
        asked.append(True)
        return [MINE]

    with Waits(look, "m-1", lambda line: None, quiet_s=30) as waits:
        for _ in range(5):
            waits.heard()
            time.sleep(0.01)
    assert asked == []


def test_a_cluster_that_does_not_answer_is_no_reason() -> None:
    asked = threading.Event()

    def look() -> list[Waiting]:
        asked.set()
        raise ClusterError("gone")

    told: list[str] = []
    with Waits(look, "m-1", told.append, quiet_s=0.01):
        assert asked.wait(5)
    assert told == []
