"""Requests put together: those that arrive while the model is busy are answered in one batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from jobs.domains import Columns, Loaded
from serve.errors import ServiceError, overloaded, wrong_content

SPREAD = 1.5
"""In one pass the longest row is at most so many times as long as the shortest..."""
SLACK = 16
"""...and so many elements: below that, another pass costs more than the padding."""
PASS = 16
"""Requests of a pass on a processor: what 32 need outgrows its cache and takes a tenth longer."""

AHEAD = 2
"""So many passes are given to the computer at once, where they are full."""
RELENT_S = 0.5
"""Without a refusal for so long, the overload is over..."""
LOOK_S = 30.0
"""...and after so long it is seen whether it is: clients that ask again at once are refused by the
short queue itself, where the whole one may have room for all of them."""


@dataclass
class Asked:
    """A request that has been read."""

    request: Mapping[str, Any]
    row: Columns


@dataclass
class Waiting(Asked):
    """A request that waits for its batch."""

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
        self,
        loaded: Loaded,
        size: int,
        wait_s: float,
        decoders: Executor,
        computer: Executor,
        observe: Callable[[int, int], None] | None = None,
        most: int = PASS,
    ) -> None:
        self.loaded = loaded
        self.size = size
        self.most = most
        """Requests of a pass; a batch that is larger takes several."""
        self.wait_s = wait_s
        self.under_way = 0
        self.sizes: deque[int] = deque(maxlen=1000)
        """Of the newest batches."""
        self._decoders = decoders
        self._computer = computer
        self._observe = observe
        """Told the size of each batch, and how many wait for the next."""
        self._waiting: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._passes: set[asyncio.Task[None]] = set()
        self._alone: asyncio.Future[list[Any]] | None = None
        self._batch_s = 0.1
        self._refusing_since = self._refusing_until = 0.0

    @property
    def bound(self) -> int:
        """A batch that is computed, and one that waits: so an answer takes two batches at most.

        While requests are refused, which takes time from computing, a batch of several passes
        counts as less than two of them: passes become smaller, and are as fast for each request.
        """
        if time.monotonic() < self._refusing_until and self.most < self.size:
            return 3 * self.most // 2
        return 2 * self.size

    def admit(self) -> None:
        """ServiceError where the bound is reached."""
        if self.under_way >= self.bound:
            now = time.monotonic()
            if now >= self._refusing_until:
                self._refusing_since = now
            self._refusing_until = min(now + RELENT_S, self._refusing_since + LOOK_S)
            raise overloaded(2 * self._batch_s)

    async def ask(self, request: Mapping[str, Any]) -> Any:
        """The answer; ServiceError where the bound is reached or the request is wrong."""
        self.admit()
        self.under_way += 1
        try:
            if self.under_way == 1 and not self.wait_s:
                return await self._answer_alone(request)
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

    async def _answer_alone(self, request: Mapping[str, Any]) -> Any:
        """Where nobody else asks: read and computed in one go, which saves two thread switches."""
        loop = asyncio.get_running_loop()
        self._alone = loop.run_in_executor(self._computer, read_and_compute, self.loaded, request)
        [answer] = await self._alone
        self.sizes.append(1)
        if self._observe is not None:
            self._observe(1, len(self._waiting))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _work(self) -> None:
        """Takes batches until nobody waits.

        While a pass is computed the next may be due already, if it is full: nobody could join it,
        and the computer goes from one to the other without waiting for this loop.
        """
        while self._waiting:
            await self._room(len(self._waiting))
            if self._alone is not None and not self._alone.done():
                await asyncio.wait([self._alone])  # meanwhile the batch grows
            await self._fill()
            # Whoever hung up meanwhile is not computed.
            batch = [each for each in self._take() if not each.answer.done()]
            for group in by_length(batch, self.most):
                await self._room(len(group))
                self._passes.add(asyncio.create_task(self._compute(group)))

    async def _room(self, count: int) -> None:
        """Waits until a pass of so many may follow those under way."""
        full = min(self.size, self.most)
        while len(self._passes) >= (AHEAD if count >= full else 1):
            done, _ = await asyncio.wait(self._passes, return_when=asyncio.FIRST_COMPLETED)
            self._passes -= done
            count = max(count, len(self._waiting))

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
        loop = asyncio.get_running_loop()
        seconds, answers = await loop.run_in_executor(self._computer, timed, self.loaded, group)
        self.sizes.append(len(group))
        if self._observe is not None:
            self._observe(len(group), len(self._waiting))
        self._batch_s = 0.8 * self._batch_s + 0.2 * seconds
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


def read_and_compute(loaded: Loaded, request: Mapping[str, Any]) -> list[Any]:
    """The answer to one request, or the exception, in a list."""
    return compute(loaded, [Asked(request, read_row(loaded, request))])


def timed(loaded: Loaded, group: Sequence[Asked]) -> tuple[float, list[Any]]:
    """The seconds that `compute` takes, and what it gives."""
    started = time.monotonic()
    answers = compute(loaded, group)
    return time.monotonic() - started, answers


def compute(loaded: Loaded, group: Sequence[Asked]) -> list[Any]:
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


def by_length(batch: Sequence[Waiting], most: int = PASS) -> list[list[Waiting]]:
    """Groups of like lengths, the shortest first, so that a short text does not pay for a long.

    None is larger than `most`; what is, is divided evenly.
    """
    groups: list[list[Waiting]] = []
    for waiting in sorted(batch, key=lambda each: each.length):
        first = groups[-1][0].length if groups else 0
        if groups and waiting.length <= first * SPREAD + SLACK:
            groups[-1].append(waiting)
        else:
            groups.append([waiting])
    return [part for group in groups for part in _divided(group, most)]


def _divided(group: list[Waiting], most: int) -> list[list[Waiting]]:
    passes = -(-len(group) // most)
    size = -(-len(group) // passes)
    return [group[start : start + size] for start in range(0, len(group), size)]
