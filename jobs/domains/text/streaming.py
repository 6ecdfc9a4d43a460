"""Many continuations at once, token by token, by transformers' continuous batching.

The streams hold a network of their own that shares the weights, because continuous batching
changes how a network attends. Greedy decoding gives the tokens that `GenerationAnswers` gives.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from jobs.domains.text.answering import GenerationAnswers, Parameters

UNFINISHED = "�"
"""What an incomplete character decodes to."""
MOST_STREAMS = 64
FORGET_S = 5.0
PAGE = 64
"""Tokens a block of the cache."""


@dataclass(frozen=True)
class Piece:
    """New text of a continuation; the last one says why it ended."""

    text: str
    finish: str | None = None
    """"stop" (the model's end, or a stop text) or "length" in the last piece."""
    prompt_tokens: int = 0
    new_tokens: int = 0
    """So far."""


class Streams:
    """Continues several prompts at once. Make it and use it in one event loop; then `close`."""

    def __init__(self, answers: GenerationAnswers, most: int = MOST_STREAMS) -> None:
        self.answers = answers
        self.most = most
        self._manager: Any = None

    async def write(self, request: Mapping[str, Any]) -> AsyncIterator[Piece]:
        """The continuation in pieces; parameters as in `GenerationAnswers`, without a seed.

        Raises ValueError where the request is wrong. A caller that stops early ends its stream.
        """
        ids, parameters = self.answers.parse(request)
        ids = ids or [self.answers.vocabulary.end]
        made: list[int] = []
        unsent = _Text(self.answers, parameters)
        prompt_tokens = len(ids)
        while True:
            window, room = self.answers.window(ids, parameters.max_new_tokens - len(made))
            before = list(made)
            async for tokens in self._tokens(window, room, parameters):
                made = before + tokens
                text, over = unsent.take(made)
                if over:
                    yield Piece(text, "stop", prompt_tokens, len(made))
                    return
                if text:
                    yield Piece(text, None, prompt_tokens, len(made))
            if len(made) >= parameters.max_new_tokens or len(made) == len(before):
                yield Piece(unsent.rest(made), "length", prompt_tokens, len(made))
                return
            ids = window + made[len(before) :]

    def start(self) -> None:
        """Starts the thread that computes; the first stream does it otherwise."""
        if self._manager is None:
            self._manager = _manager(self.answers, self.most)
            self._manager.start()

    def close(self) -> None:
        """Ends the thread; streams under way break off."""
        if self._manager is not None:
            self._manager.stop(block=True, timeout=FORGET_S, hard_stop=True)
            self._manager = None

    async def _tokens(
        self, window: list[int], room: int, parameters: Parameters
    ) -> AsyncIterator[list[int]]:
        """All new tokens of one window, again with each further one."""
        self.start()
        name, found = uuid.uuid4().hex, asyncio.Queue[Any]()
        self._manager.register_result_handler(name, found.put_nowait)
        self._manager.add_request(
            window,
            name,
            max_new_tokens=room,
            streaming=True,
            eos_token_id=self.answers.vocabulary.end,
            **_sampling(parameters, self.answers.vocabulary.size),
        )
        finished = False
        try:
            while not finished:
                output = await found.get()
                finished = output.is_finished()
                if output.error:
                    raise RuntimeError(f"generation failed: {output.error}")
                yield list(output.generated_tokens)
        finally:
            if not finished and self._manager is not None:
                self._manager.cancel_request(name)
                # Nobody tells when it has been: until then its tokens go where nobody looks.
                handlers = self._manager.output_router.result_handlers
                asyncio.get_running_loop().call_later(FORGET_S, handlers.pop, name, None)


class _Text:
    """What of a continuation may be sent: whole characters, and nothing that a stop text begins."""

    def __init__(self, answers: GenerationAnswers, parameters: Parameters) -> None:
        self._vocabulary = answers.vocabulary
        self._stop = parameters.stop
        self._sent = 0

    def take(self, made: list[int]) -> tuple[str, bool]:
        """Text that was not sent yet, and whether it ends here."""
        ended = bool(made) and made[-1] == self._vocabulary.end
        text = self._vocabulary.decode(made)
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places or ended:
            return self._send(text[: min(places, default=len(text))]), True
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        if text.endswith(UNFINISHED):
            held = max(held, 4)  # bytes of one character at most
        return self._send(text[: max(self._sent, len(text) - held)]), False

    def rest(self, made: list[int]) -> str:
        """All that was held back."""
        return self._send(self._vocabulary.decode(made))

    def _send(self, text: str) -> str:
        new = text[self._sent :]
        self._sent = max(self._sent, len(text))
        return new


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that the stop text begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def _sampling(parameters: Parameters, size: int) -> dict[str, Any]:
    if parameters.temperature == 0:
        return {"temperature": 1.0, "top_k": 1, "top_p": 1.0}
    return {
        "temperature": float(parameters.temperature),
        "top_k": min(parameters.top_k, size) or size,
        "top_p": float(parameters.top_p or 1e-6),
    }


def _manager(answers: GenerationAnswers, most: int) -> Any:
    network = _sharing(answers.network)
    # Values other than the neutral ones: the processors of each request are made only then.
    generation = GenerationConfig(
        do_sample=True,
        temperature=0.9,
        top_k=50,
        top_p=0.9,
        max_new_tokens=answers.context,
        eos_token_id=answers.vocabulary.end,
        pad_token_id=answers.vocabulary.end,
    )
    config = ContinuousBatchingConfig(
        page_size=PAGE,
        # Set by us: by itself the cache takes most of the machine's memory.
        num_blocks=most * (-(-answers.context // PAGE) + 1),
        max_batch_tokens=max(256, 2 * answers.context),
        per_request_processors=True,
        allow_block_sharing=False,
    )
    return network.init_continuous_batching(generation, config)


def _sharing(network: Any) -> Any:
    """A second network over the same weights."""
    with torch.device("meta"):
        twin = type(network)(network.config)
    twin.to(network.dtype)
    twin.load_state_dict(network.state_dict(), assign=True)
    for (name, own), theirs in zip(twin.named_buffers(), network.buffers(), strict=True):
        if own.is_meta:  # not among the state: positions and the like
            parent = twin.get_submodule(name.rpartition(".")[0])
            parent.register_buffer(name.rpartition(".")[2], theirs, persistent=False)
    twin.tie_weights()
    return twin.eval()
