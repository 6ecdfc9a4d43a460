"""One replica of a model: its versions, its batches, its threads. Plain Python, no Ray."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from serve.batching import Batcher
from serve.errors import ServiceError
from serve.tasks import Task
from serve.versions import Held, Shelf

LOOK_AGAIN_S = 2.0
"""So often are the aliases read again."""
log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Settings:
    """What may change while a replica runs."""

    traffic: Mapping[str, float]
    """Alias -> share of the requests."""
    batch_size: int = 32
    batch_wait_s: float = 0.0


class Replica:
    """Answers requests with the versions of one model."""

    def __init__(self, shelf: Shelf, task: Task) -> None:
        self.shelf = shelf
        self.task = task
        self.settings = Settings({})
        # One computes, so that a batch forms meanwhile; decoding and loading never wait for it.
        self._computer = ThreadPoolExecutor(1, "compute")
        self._decoders = ThreadPoolExecutor(4, "decode")
        self._loader = ThreadPoolExecutor(1, "load")
        self._batchers: dict[int, Batcher] = {}
        self._watch: asyncio.Task[None] | None = None

    async def configure(self, settings: Settings) -> None:
        """Takes settings over, and loads what they need; the first time before any traffic."""
        self.settings = settings
        self._batchers.clear()  # what is under way holds on to its own
        self.shelf.share(settings.traffic)
        await self.refresh()
        if self._watch is None:
            self._watch = asyncio.create_task(self._follow())

    async def refresh(self) -> None:
        """Loads the versions that the aliases point at now."""
        loop = asyncio.get_running_loop()
        if await loop.run_in_executor(self._loader, self.shelf.refresh):
            live = {held.number for held in self.shelf.live.values()}
            self._batchers = {n: each for n, each in self._batchers.items() if n in live}

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                await self.refresh()
            except Exception:
                log.exception("cannot look after the aliases of %s", self.shelf.model)

    async def held(self, reference: str, key: str) -> Held:
        """The version for a request: the one it names, else by the traffic's shares."""
        if not reference:
            return self.shelf.pick(key)
        if reference in self.shelf.live:
            return self.shelf.live[reference]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._loader, self.shelf.find, reference)

    async def answer(
        self, requests: Sequence[Mapping[str, Any]], reference: str = "", key: str = ""
    ) -> tuple[int, list[Any]]:
        """The version that answered, and its answer to each; all or none of them."""
        held = await self.held(reference, key)
        batcher = self._batcher(held)
        try:
            async with asyncio.timeout(self.task.deadline_s):
                asked = [asyncio.ensure_future(batcher.ask(request)) for request in requests]
                try:
                    return held.number, [await each for each in asked]
                finally:
                    for each in asked:
                        each.cancel()
        except TimeoutError:
            message = f"no answer within {self.task.deadline_s:g} s"
            raise ServiceError(504, "too_slow", message) from None

    def _batcher(self, held: Held) -> Batcher:
        batcher = self._batchers.get(held.number)
        if batcher is None or batcher.loaded is not held.loaded:
            size = 1 if self.task.is_generation else self.settings.batch_size
            batcher = Batcher(
                held.loaded, size, self.settings.batch_wait_s, self._decoders, self._computer
            )
            self._batchers[held.number] = batcher
        return batcher
