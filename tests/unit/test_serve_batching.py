"""Batches form while the model is busy, and nobody pays for others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serve.batching import LOOK_S, PASS, RELENT_S, Batcher, Waiting, by_length
from serve.errors import ServiceError
from tests.fakes import FakeLoaded

Make = Callable[..., Batcher]


@pytest.fixture
def make() -> Iterator[Make]:
    decoders, computer = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
    yield lambda loaded, size=4, wait_s=0.0: Batcher(loaded, size, wait_s, decoders, computer)
    decoders.shutdown()
    computer.shutdown()


def run(work: Awaitable[Any]) -> Any:
    async def wrapped() -> Any:
        return await asyncio.wait_for(work, 10)

    return asyncio.run(wrapped())


async def ask(batcher: Batcher, *texts: str) -> list[Any]:
    return await asyncio.gather(
        *(batcher.ask({"inputs": text}) for text in texts), return_exceptions=True
    )


def test_a_lone_request_does_not_wait(make: Make) -> None:
    loaded = FakeLoaded()
    assert run(ask(make(loaded), "a")) == [[[{"label": "a", "score": 1.0}]]]
    assert loaded.batches == [["a"]]


def test_requests_gather_while_the_model_is_busy(make: Make) -> None:
    loaded = FakeLoaded(0.1)

    async def work() -> None:
        batcher = make(loaded)
        first = asyncio.create_task(batcher.ask({"inputs": "first"}))
        await asyncio.sleep(0.03)
        await ask(batcher, "a", "b", "c")
        await first

    run(work())
    assert loaded.batches[0] == ["first"]
    assert sorted(loaded.batches[1]) == ["a", "b", "c"]
    assert len(loaded.threads) == 1


def test_a_full_pass_follows_without_the_loop(make: Make) -> None:
    loaded = FakeLoaded(0.05)

    async def work() -> int:
        batcher = make(loaded)
        batcher.most = 2
        asked = asyncio.create_task(ask(batcher, *"abcde"))
        while len(loaded.batches) < 2:
            await asyncio.sleep(0.001)
        time.sleep(0.3)  # whatever else the loop has to do
        computed = len(loaded.batches)
        await asked
        return computed

    assert run(work()) == 3
    assert [len(batch) for batch in loaded.batches] == [1, 2, 2]


def test_what_is_not_full_waits_for_its_turn(make: Make) -> None:
    loaded = FakeLoaded(0.1)

    async def work() -> None:
        batcher = make(loaded)
        batcher.most = 2
        asked = asyncio.create_task(ask(batcher, *"abc"))
        while len(loaded.batches) < 2:
            await asyncio.sleep(0.001)
        late = asyncio.create_task(ask(batcher, "d"))
        await asyncio.sleep(0.05)
        await ask(batcher, "e")
        await asyncio.gather(asked, late)

    run(work())
    assert [len(batch) for batch in loaded.batches] == [1, 2, 2]


def test_a_batch_waits_for_others_only_where_told(make: Make) -> None:
    loaded = FakeLoaded()

    async def work() -> None:
        batcher = make(loaded, size=2, wait_s=5.0)
        first = asyncio.create_task(batcher.ask({"inputs": "a"}))
        await asyncio.sleep(0.05)
        await ask(batcher, "b")
        await first

    run(work())
    assert loaded.batches == [["a", "b"]]


def test_one_that_fails_does_not_take_the_others_with_it(make: Make) -> None:
    good, wrong, failed = run(ask(make(FakeLoaded(0.02)), "good", "bad", "boom"))
    assert good == [[{"label": "good", "score": 1.0}]]
    assert (wrong.status, wrong.code) == (422, "invalid_content")
    assert failed.status == 500


def test_a_lone_request_that_cannot_be_read_or_computed_says_so(make: Make) -> None:
    for text, status in (("bad", 422), ("boom", 500)):
        [error] = run(ask(make(FakeLoaded()), text))
        assert isinstance(error, ServiceError)
        assert error.status == status


def test_beyond_the_bound_is_refused_at_once(make: Make) -> None:
    async def work() -> list[Any]:
        batcher = make(FakeLoaded(0.05), size=2)
        found = await ask(batcher, *"abcdef")
        assert batcher.under_way == 0
        return found

    found = run(work())
    refused = [each for each in found if isinstance(each, ServiceError)]
    assert len(refused) == 2
    assert all(e.status == 503 and int(e.headers["Retry-After"]) >= 1 for e in refused)


def test_the_queue_is_short_while_requests_are_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make(FakeLoaded(), size=3 * PASS)
    short = 3 * PASS // 2
    batcher.under_way = short
    batcher.admit()  # a burst is let in
    for under_way in (6 * PASS, short):
        batcher.under_way = under_way
        with pytest.raises(ServiceError):
            batcher.admit()
    batcher.under_way = short - 1
    batcher.admit()
    later = time.monotonic() + RELENT_S
    monkeypatch.setattr("time.monotonic", lambda: later)
    batcher.under_way = 6 * PASS - 1
    batcher.admit()


def test_clients_that_never_pause_are_not_refused_for_ever(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher, now, refused = make(FakeLoaded(), size=2 * PASS), 1000.0, []
    monkeypatch.setattr("time.monotonic", lambda: now)
    batcher.under_way = 4 * PASS
    with pytest.raises(ServiceError):
        batcher.admit()
    batcher.under_way = 3 * PASS  # fewer than the whole queue holds
    while now < 1100.0 and (not refused or now - refused[-1] < 0.2):
        now += 0.1
        try:
            batcher.admit()
        except ServiceError:
            refused.append(now)
    assert LOOK_S - 0.2 < refused[-1] - 1000.0 < LOOK_S
    batcher.under_way = 4 * PASS
    for _ in range(2):  # it was not over: the queue is short again
        with pytest.raises(ServiceError):
            batcher.admit()
        batcher.under_way = 3 * PASS


def test_whoever_hung_up_is_not_computed(make: Make) -> None:
    loaded = FakeLoaded(0.1)

    async def work() -> None:
        batcher = make(loaded)
        first = asyncio.create_task(batcher.ask({"inputs": "first"}))
        await asyncio.sleep(0.03)
        gone = asyncio.create_task(batcher.ask({"inputs": "gone"}))
        await asyncio.sleep(0.03)
        gone.cancel()
        await first
        await ask(batcher, "after")

    run(work())
    assert loaded.batches == [["first"], ["after"]]


def test_short_texts_do_not_pay_for_long_ones() -> None:
    loaded = FakeLoaded()
    loop = asyncio.new_event_loop()
    waiting = [
        Waiting({"inputs": "x" * n}, loaded.row({"inputs": "x" * n}), loop.create_future())
        for n in (400, 10, 12, 390, 20)
    ]
    groups = [[each.length for each in group] for group in by_length(waiting)]
    loop.close()
    assert groups == [[10, 12, 20], [390, 400]]


def test_what_does_not_fit_one_pass_is_divided_evenly() -> None:
    loaded = FakeLoaded()
    loop = asyncio.new_event_loop()
    waiting = [
        Waiting({"inputs": "x"}, loaded.row({"inputs": "x"}), loop.create_future())
        for _ in range(33)
    ]
    loop.close()
    assert [len(group) for group in by_length(waiting, 16)] == [11, 11, 11]
    assert [len(group) for group in by_length(waiting, 64)] == [33]


def test_each_batch_is_told_with_what_waits_for_the_next() -> None:
    seen: list[tuple[int, int]] = []
    decoders, computer = ThreadPoolExecutor(2), ThreadPoolExecutor(1)

    async def work() -> None:
        told = lambda size, waiting: seen.append((size, waiting))  # noqa: E731
        batcher = Batcher(FakeLoaded(0.05), 2, 0.0, decoders, computer, told)
        first = asyncio.create_task(batcher.ask({"inputs": "first"}))
        await asyncio.sleep(0.02)
        await ask(batcher, "a", "b", "c")
        await first

    run(work())
    decoders.shutdown()
    computer.shutdown()
    assert seen == [(1, 3), (2, 1), (1, 0)]
