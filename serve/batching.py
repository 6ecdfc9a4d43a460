"""Requests put together: those that arrive while the model is busy are answered in one batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from jobs.domains import Columns, Loaded
from serve.errors import ServiceError, overloaded, wrong_content

SPREAD = 1.5
"""In one pass the longest row is at most so many times as long as the shortest..."""
SLACK = 16
"""...and so many elements: below that, another pass costs more than the padding."""


@dataclass
class Waiting:
    """A request that waits for its batch."""

    request: Mapping[str, Any]
    row: Columns
    answer: asyncio.Future[Any]
    arrived: float = field(default_factory=time.monotonic)

    @property
    def length(self) -> int:
        """Elements of the row, which decide how long the model takes for it."""
        return max((column.size for column in self.row.values()), default=1)


class Batcher:
    """Answers requests with one model, in batches, in order of arrival.

    `decoders` run `row` of several requests at once; `computer` has one thread, so that one batch
    is computed at a time. No more than `bound` requests are under way: the rest are refused.
    """

    def __init__(
        self, loaded: Loaded, size: int, wait_s: float, decoders: Executor, computer: Executor
    ) -> None:
        self.loaded = loaded
        self.size = size
        self.wait_s = wait_s
        self.under_way = 0
        self.sizes: deque[int] = deque(maxlen=1000)
        """Of the newest batches."""
        self._decoders = decoders
        self._computer = computer
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._batch_s = 0.1

    @property
    def bound(self) -> int:
        """A batch that is computed, and one that waits: so an answer takes two batches at most."""
        return 2 * self.size

    async def ask(self, request: Mapping[str, Any]) -> Any:
        """The answer; ServiceError where the bound is reached or the request is wrong."""
        if self.under_way >= self.bound:
            raise overloaded(2 * self._batch_s)
        self.under_way += 1
        try:
            loop = asyncio.get_running_loop()
            row = await loop.run_in_executor(self._decoders, read_row, self.loaded, request)
            waiting = Waiting(request, row, loop.create_future())
            self._waiting.append(waiting)
            self._arrived.set()
            if self._task is None or self._task.done():
                self._task = loop.create_task(self._work())
            return await waiting.answer
        finally:
            self.under_way -= 1

    async def _work(self) -> None:
        while self._waiting:
            await self._fill()
            # Whoever hung up meanwhile is not computed.
            batch = [each for each in self._take() if not each.answer.done()]
            for group in by_length(batch):
                await self._compute(group)

    async def _fill(self) -> None:
        """Waits for others as long as the oldest may wait; not at all by default."""
        until = self._waiting[0].arrived + self.wait_s
        while self.wait_s and len(self._waiting) < self.size:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[Waiting]:
        return [self._waiting.popleft() for _ in range(min(self.size, len(self._waiting)))]

    async def _compute(self, group: Sequence[Waiting]) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._computer, compute, self.loaded, group)
        self.sizes.append(len(group))
        self._batch_s = 0.8 * self._batch_s + 0.2 * (time.monotonic() - started)
        for waiting, answer in zip(group, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)

    def close(self) -> None:
        """Refuses what still waits."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                waiting.answer.set_exception(overloaded(1))


def read_row(loaded: Loaded, request: Mapping[str, Any]) -> Columns:
    """One request as a row; ServiceError 422 where the model cannot read it."""
    try:
        return loaded.row(request)
    except ValueError as error:
        raise wrong_content(str(error)) from error


def compute(loaded: Loaded, group: Sequence[Waiting]) -> list[Any]:
    """An answer or an exception for each; one that fails does not take the others with it."""
    try:
        return loaded.answers([each.row for each in group], [each.request for each in group])
    except Exception as error:
        if len(group) > 1:
            return [compute(loaded, [each])[0] for each in group]
        if isinstance(error, ValueError):
            return [wrong_content(str(error))]
        failure = ServiceError(500, "failed", "the model failed on this input")
        failure.__cause__ = error
        return [failure]


def by_length(batch: Sequence[Waiting]) -> list[list[Waiting]]:
    """Groups of like lengths, the shortest first, so that a short text does not pay for a long."""
    groups: list[list[Waiting]] = []
    for waiting in sorted(batch, key=lambda each: each.length):
        first = groups[-1][0].length if groups else 0
        if groups and waiting.length <= first * SPREAD + SLACK:
            groups[-1].append(waiting)
        else:
            groups.append([waiting])
    return groups
