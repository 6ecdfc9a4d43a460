"""Continuations of prompts, many at once, as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Protocol

from jobs.domains import Loaded
from serve.errors import ServiceError, overloaded, wrong_content


class Piece(Protocol):
    """New text of a continuation."""

    text: str
    finish: str | None
    prompt_tokens: int
    new_tokens: int


class Streams(Protocol):
    """What continues several prompts at once (`jobs.domains.text.streaming`)."""

    most: int

    def write(self, request: Mapping[str, Any]) -> AsyncIterator[Piece]:
        """The pieces of one continuation."""

    def close(self) -> None:
        """Ends all."""


class Writer:
    """The language model of one version. No more than `bound` continuations are under way."""

    def __init__(
        self,
        loaded: Loaded,
        streams: Callable[[Loaded], Streams],
        computer: Executor,
        observe: Callable[[int, int], None] | None = None,
    ) -> None:
        self.loaded = loaded
        self.under_way = 0
        self._streams = streams(loaded)
        self._computer = computer
        self._observe = observe
        """Told how many are written together whenever one begins; none waits."""

    @property
    def bound(self) -> int:
        """As many as are computed together: a further one would slow all of them down."""
        return self._streams.most

    def admit(self) -> None:
        """ServiceError where the bound is reached."""
        if self.under_way >= self.bound:
            raise overloaded(2)

    async def write(self, request: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """{"text", "finish", "prompt_tokens", "new_tokens"} of each piece."""
        self.admit()
        self.under_way += 1
        if self._observe is not None:
            self._observe(self.under_way, 0)
        try:
            if (request.get("parameters") or {}).get("seed") is not None:
                yield await self._alone(request)
                return
            async for piece in self._streams.write(request):
                yield {
                    "text": piece.text,
                    "finish": piece.finish,
                    "prompt_tokens": piece.prompt_tokens,
                    "new_tokens": piece.new_tokens,
                }
        except ValueError as error:
            raise wrong_content(str(error)) from error
        except RuntimeError as error:
            raise ServiceError(500, "failed", "the model failed on this input") from error
        finally:
            self.under_way -= 1

    async def _alone(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A seed decides what is drawn only where nothing else is drawn from the same generator."""
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._computer, self.loaded.answer, request)
        counts: Any = getattr(self.loaded, "count_tokens", None)
        prompt, new = (
            (counts(request["inputs"]), counts(answer["generated_text"])) if counts else (0, 0)
        )
        most = (request.get("parameters") or {}).get("max_new_tokens") or 100
        finish = "length" if new >= most else "stop"
        text = answer["generated_text"]
        return {"text": text, "finish": finish, "prompt_tokens": prompt, "new_tokens": new}

    def close(self) -> None:
        """Ends the thread that computes, once nothing is under way."""
        self._streams.close()


async def written(
    pieces: AsyncIterator[dict[str, Any]], request: Mapping[str, Any]
) -> dict[str, Any]:
    """All pieces as one answer, as `Loaded` gives it, with how it ended and what it took."""
    text, last = "", dict[str, Any]()
    if (request.get("parameters") or {}).get("return_full_text") is True:
        text = str(request.get("inputs"))
    async for piece in pieces:
        text += piece["text"]
        last = piece
    counts = {name: last.get(name) for name in ("finish", "prompt_tokens", "new_tokens")}
    return {"generated_text": text, **counts}
