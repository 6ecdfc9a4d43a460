"""One replica of a model: its versions, its batches, its threads. Plain Python, no Ray."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobs.domains import Loaded
from serve.batching import PASS, Batcher
from serve.errors import ServiceError, wrong_content
from serve.figures import ObserveBatch
from serve.tasks import Task
from serve.versions import Held, Shelf
from serve.writing import Streams, Writer, written

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

    def __init__(
        self,
        shelf: Shelf,
        task: Task,
        streams: Callable[[Loaded], Streams] | None = None,
        embeddings: Callable[[Loaded], Loaded] | None = None,
        observe: ObserveBatch | None = None,
        has_accelerator: bool = False,
    ) -> None:
        self.shelf = shelf
        self.task = task
        self._streams = streams
        self._embeddings = embeddings
        self._observe = observe
        self.has_accelerator = has_accelerator
        self.settings = Settings({})
        # One computes, so that a batch forms meanwhile; decoding and loading never wait for it.
        self._computer = ThreadPoolExecutor(1, "compute")
        self._decoders = ThreadPoolExecutor(4, "decode")
        self._loader = ThreadPoolExecutor(1, "load")
        self._batchers: dict[int, Batcher] = {}
        self._embedders: dict[int, Batcher] = {}
        self._writers: dict[int, Writer] = {}
        self._watch: asyncio.Task[None] | None = None

    async def configure(self, settings: Settings) -> None:
        """Takes settings over, and loads what they need; the first time before any traffic."""
        self.settings = settings
        self._batchers.clear()  # what is under way holds on to its own
        self._embedders.clear()
        self.shelf.share(settings.traffic)
        await self.refresh()
        if self._watch is None:
            self._watch = asyncio.create_task(self._follow())

    async def refresh(self) -> None:
        """Loads the versions that the aliases point at now."""
        loop = asyncio.get_running_loop()
        if await loop.run_in_executor(self._loader, self.shelf.refresh):
            self._forget({held.number for held in self.shelf.live.values()})

    def _forget(self, live: set[int]) -> None:
        """Lets go of versions that no alias points at; what is under way holds on to its own."""
        for known in (self._batchers, self._embedders):
            for number in [number for number in known if number not in live]:
                del known[number]
        for number in [n for n, each in self._writers.items() if n not in live]:
            if not self._writers[number].under_way:
                self._writers.pop(number).close()

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

    def admit(self, key: str) -> None:
        """Refuses a client's request where it would be refused once it is read: before it is."""
        held = self.shelf.pick(key)
        known: Mapping[int, Batcher | Writer] = self._batchers
        if self.task.is_generation:
            known = self._writers
        if (busy := known.get(held.number)) is not None:
            with self._named(held):
                busy.admit()

    async def answer(
        self, requests: Sequence[Mapping[str, Any]], reference: str = "", key: str = ""
    ) -> tuple[int, list[Any]]:
        """The version that answered, and its answer to each; all or none of them."""
        held = await self.held(reference, key)
        if self.task.is_generation:
            writer = self._writer(held)
            asked = [written(writer.write(request), request) for request in requests]
        else:
            batcher = self._batcher(held)
            asked = [batcher.ask(request) for request in requests]
        return held.number, await self._all(held, asked)

    async def stream(
        self, request: Mapping[str, Any], reference: str = "", key: str = ""
    ) -> tuple[int, AsyncIterator[dict[str, Any]]]:
        """The version that answers, and the pieces of its continuation."""
        held = await self.held(reference, key)
        return held.number, self._writer(held).write(request)

    async def embed(
        self, texts: Sequence[str], reference: str = "", key: str = ""
    ) -> tuple[int, list[Any]]:
        """{"embedding", "tokens"} of each text; 422 where the model has no embeddings."""
        held = await self.held(reference, key)
        if self._embeddings is None:
            raise wrong_content(f"{self.shelf.model} has no embeddings: it is no text model")
        embedder = self._embedders.get(held.number)
        if embedder is None:
            try:
                embedder = self._batches(held, self._embeddings(held.loaded))
            except ValueError as error:
                raise wrong_content(str(error)) from error
            self._embedders[held.number] = embedder
        asked = [embedder.ask({"inputs": text}) for text in texts]
        return held.number, await self._all(held, asked)

    async def _all(self, held: Held, asked: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """The results of all, within the deadline; one that fails ends the others."""
        with self._named(held):
            try:
                async with asyncio.timeout(self.task.deadline_s):
                    if len(asked) == 1:  # a task of its own would cost more than it does
                        return [await asked[0]]
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(each) for each in asked]
            except TimeoutError:
                message = f"no answer within {self.task.deadline_s:g} s"
                raise ServiceError(504, "too_slow", message) from None
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
            return [task.result() for task in tasks]

    @contextmanager
    def _named(self, held: Held) -> Iterator[None]:
        """What is refused meanwhile carries the version's name, and counts as the version's."""
        try:
            yield
        except ServiceError as error:
            error.headers["x-model-version"] = f"{self.shelf.model}@{held.number}"
            raise

    def _batcher(self, held: Held) -> Batcher:
        batcher = self._batchers.get(held.number)
        if batcher is None or batcher.loaded is not held.loaded:
            batcher = self._batchers[held.number] = self._batches(held, held.loaded)
        return batcher

    def _batches(self, held: Held, loaded: Loaded) -> Batcher:
        size, wait_s = self.settings.batch_size, self.settings.batch_wait_s
        observe = self._observer(held)
        most = size if self.has_accelerator else PASS
        return Batcher(loaded, size, wait_s, self._decoders, self._computer, observe, most)

    def _observer(self, held: Held) -> Callable[[int, int], None] | None:
        if self._observe is None:
            return None
        return partial(self._observe, f"{self.shelf.model}@{held.number}")

    def _writer(self, held: Held) -> Writer:
        assert self._streams is not None
        writer = self._writers.get(held.number)
        if writer is None or writer.loaded is not held.loaded:
            observe = self._observer(held)
            writer = Writer(held.loaded, self._streams, self._computer, observe)
            self._writers[held.number] = writer
        return writer
