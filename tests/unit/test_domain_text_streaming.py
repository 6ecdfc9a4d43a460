"""Streams give the tokens of one continuation after another, and let go of who left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.domains import open_domain
from jobs.domains.text.answering import GenerationAnswers
from jobs.domains.text.embedding import Embeddings
from jobs.domains.text.streaming import Streams
from jobs.domains.text.vocabulary import train_bpe

TEXT = "the quick brown fox jumps over the lazy dog; grüße und käse.\n" * 40
CONTEXT = 16
Work = Callable[[Streams], Awaitable[Any]]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def answers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> GenerationAnswers:
    folder = tmp_path_factory.mktemp("processor")
    train_bpe([TEXT], 300, folder)
    shape = {"layers": 2, "heads": 2, "width": 32, "kv_heads": 1, "dropout": 0.0}
    network = SimpleNamespace(style=request.param, context=CONTEXT, **shape)
    data = SimpleNamespace(columns={}, encoding="auto")
    model: Any = SimpleNamespace(domain="text", task="generation", data=data, network=network)
    torch.manual_seed(3)
    torch.set_num_threads(1)
    domain = open_domain(model, folder)
    return GenerationAnswers(domain.network().eval(), domain.vocabulary)  # type: ignore[attr-defined]


@pytest.fixture
def run(answers: GenerationAnswers) -> Callable[[Work], Any]:
    async def bounded(work: Work) -> Any:
        streams = Streams(answers, most=8)
        try:
            return await asyncio.wait_for(work(streams), 30)
        finally:
            streams.close()

    return lambda work: asyncio.run(bounded(work))


def request(prompt: str, **parameters: Any) -> dict[str, Any]:
    return {"inputs": prompt, "parameters": {"max_new_tokens": 12, "temperature": 0} | parameters}


async def text(pieces: AsyncIterator[Any]) -> tuple[str, Any]:
    found = [piece async for piece in pieces]
    return "".join(piece.text for piece in found), found[-1]


@pytest.mark.parametrize("length", [6, 40])
def test_several_at_once_are_as_one_after_another(
    answers: GenerationAnswers, run: Callable[[Work], Any], length: int
) -> None:
    asked = [request(f"the {word}", max_new_tokens=length) for word in ("fox", "dog", "", "cat")]

    async def work(streams: Streams) -> Any:
        return await asyncio.gather(*(text(streams.write(each)) for each in asked))

    for each, (found, last) in zip(asked, run(work), strict=True):
        assert found == answers.answer(each)["generated_text"]
        assert last.finish in ("length", "stop")
        assert last.finish == "stop" or last.new_tokens == length


def test_a_stop_text_is_never_sent_in_part(
    answers: GenerationAnswers, run: Callable[[Work], Any]
) -> None:
    whole = answers.answer(request("the fox"))["generated_text"]
    stop = whole[4:7]
    asked = request("the fox", stop=[stop])
    found, last = run(lambda streams: text(streams.write(asked)))
    assert (found, last.finish) == (whole[: whole.find(stop)], "stop")


def test_one_who_leaves_takes_nobody_along(
    answers: GenerationAnswers, run: Callable[[Work], Any]
) -> None:
    async def leave(streams: Streams) -> None:
        async for _ in streams.write(request("the fox", max_new_tokens=400)):
            return

    async def work(streams: Streams) -> Any:
        found = await asyncio.gather(leave(streams), text(streams.write(request("the dog"))))
        return found[1]

    assert run(work)[0] == answers.answer(request("the dog"))["generated_text"]


def test_wrong_requests_are_refused(run: Callable[[Work], Any]) -> None:
    for wrong in ({"inputs": 3}, request("a", max_new_tokens=0), request("a", colour="red")):
        with pytest.raises(ValueError, match=r"must be|unknown parameter"):
            run(lambda streams, wrong=wrong: text(streams.write(wrong)))


def test_embeddings_do_not_depend_on_who_shares_the_batch(answers: GenerationAnswers) -> None:
    embeddings = Embeddings(answers)
    texts = [{"inputs": "fox"}, {"inputs": "the quick brown fox jumps over"}, {"inputs": ""}]
    rows = [embeddings.row(each) for each in texts]
    together = embeddings.answers(rows, texts)
    for each, found in zip(texts, together, strict=True):
        alone = embeddings.answer(each)
        assert found["embedding"] == pytest.approx(alone["embedding"], abs=1e-5)
        assert found["tokens"] == alone["tokens"]
