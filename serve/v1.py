"""The routes below /v1, for OpenAI's clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from serve import openai
from serve.content import Content
from serve.errors import ServiceError, wrong_content
from serve.forms import read_form
from serve.gateway import answered, only, session_of
from serve.reading import parse_json, read_body
from serve.sound import FORMATS, STREAMED, encoded, sentences
from serve.tasks import MIB, TASKS, Task
from serve.tokens import Client

Route = Callable[[Request, Client], Awaitable[Response]]


class Models(Protocol):
    """The part of the front that is needed here."""

    models: dict[str, Mapping[str, Any]]
    handle_of: Callable[[str], Any]

    def task(self, name: str) -> Task:
        """The task of a model; 404 where there is none."""

    async def ask(self, name: str, method: str, *arguments: Any) -> tuple[int, list[Any]]:
        """The version and the answers of a model's replica."""


class V1:
    """OpenAI's routes over the models of a front."""

    def __init__(self, front: Models) -> None:
        self.front = front
        self.routes: dict[str, Route] = {
            "/v1/models": self._models,
            "/v1/completions": self._completions,
            "/v1/embeddings": self._embeddings,
            "/v1/audio/speech": self._speech,
            "/v1/audio/transcriptions": self._transcriptions,
        }

    async def _models(self, request: Request, client: Client) -> Response:
        only(request, "GET")
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "slipway"}
            | {key: model[key] for key in ("domain", "task")}
            for name, model in self.front.models.items()
        ]
        return JSONResponse({"object": "list", "data": data})

    async def _completions(self, request: Request, client: Client) -> Response:
        document = await _document(request)
        reference = openai.model_of(document)
        name, version = self._find(reference, ("text", "generation"))
        requests = openai.continuation_requests(document)
        key = session_of(request, client)
        if document.get("stream") is True:
            if len(requests) > 1:
                raise wrong_content("streaming takes one prompt")
            return await self._stream(name, version, key, requests[0], document)
        number, answers = await self.front.ask(name, "answer", requests, version, key)
        body = openai.completion(reference, answers)
        return answered(Content(body), f"{name}@{number}")

    async def _stream(
        self,
        name: str,
        version: str,
        key: str,
        request: Mapping[str, Any],
        document: Mapping[str, Any],
    ) -> Response:
        """Server-sent events; whatever is wrong before the first one has its own status."""
        options = document.get("stream_options") or {}
        chunks = openai.Chunks(str(document["model"]), options.get("include_usage") is True)
        pieces = aiter(
            self.front.handle_of(name)
            .options(stream=True)
            .stream.remote(dict(request), version, key)
        )
        number = _checked(await anext(pieces))["number"]
        first = _checked(await anext(pieces))
        echo = request["inputs"] if request["parameters"].get("return_full_text") else ""
        headers = {"x-model-version": f"{name}@{number}", "cache-control": "no-cache"}
        events = _events(chunks, first, pieces, echo)
        return StreamingResponse(events, 200, headers, "text/event-stream")

    async def _embeddings(self, request: Request, client: Client) -> Response:
        document = await _document(request)
        reference = openai.model_of(document)
        name, version = self._find(reference)
        texts = openai.embedding_texts(document)
        key = session_of(request, client)
        number, answers = await self.front.ask(name, "embed", texts, version, key)
        tokens = sum(each["tokens"] for each in answers)
        vectors = [each["embedding"] for each in answers]
        form = document.get("encoding_format")
        body = openai.embeddings(reference, vectors, tokens, form)
        return answered(Content(body), f"{name}@{number}")

    async def _speech(self, request: Request, client: Client) -> Response:
        document = await _document(request)
        name, version = self._find(openai.model_of(document), ("speech", "synthesis"))
        if not isinstance(document.get("input"), str):
            raise wrong_content('"input" must be a text')
        form = document.get("response_format") or "mp3"
        if not isinstance(form, str) or form not in FORMATS:
            raise wrong_content(f'"response_format" must be one of {", ".join(FORMATS)}')
        key = session_of(request, client)
        parts = sentences(document["input"]) if form in STREAMED else [document["input"]]

        async def speak(text: str) -> tuple[str, Content]:
            asked = {"inputs": text, "parameters": {}}
            number, answers = await self.front.ask(name, "answer", [asked], version, key)
            return f"{name}@{number}", encoded(answers[0], form)

        spoken, first = await speak(parts[0])
        if len(parts) == 1:
            return answered(first, spoken)

        async def following() -> AsyncIterator[bytes]:
            yield first.body
            for text in parts[1:]:
                yield (await speak(text))[1].body

        headers = {"x-model-version": spoken}
        return StreamingResponse(following(), 200, headers, first.media_type)

    async def _transcriptions(self, request: Request, client: Client) -> Response:
        only(request, "POST")
        limit = TASKS["speech", "recognition"].limit_bytes
        fields = await read_form(request, await read_body(request, limit + MIB))
        name, version = self._find(openai.model_of(fields), ("speech", "recognition"))
        if not isinstance(fields.get("file"), bytes):
            raise wrong_content('"file" is missing: the sound to read')
        form = fields.get("response_format", "json")
        if form not in ("json", "text"):
            raise wrong_content('"response_format" must be "json" or "text"')
        asked = {"inputs": fields["file"], "parameters": {}}
        key = session_of(request, client)
        number, answers = await self.front.ask(name, "answer", [asked], version, key)
        if form == "text":
            return PlainTextResponse(
                answers[0]["text"], headers={"x-model-version": f"{name}@{number}"}
            )
        return answered(Content({"text": answers[0]["text"]}), f"{name}@{number}")

    def _find(self, reference: str, kind: tuple[str, str] | None = None) -> tuple[str, str]:
        """(name, version) of MODEL or MODEL@VERSION; 404 or 422 where it is not of this kind."""
        name, _, version = reference.partition("@")
        self.front.task(name)
        model = self.front.models[name]
        if kind is not None and (model["domain"], model["task"]) != kind:
            own = f"{model['domain']} {model['task']}"
            raise wrong_content(f"{name} is a model of {own}; this route is for {' '.join(kind)}")
        return name, version


async def _document(request: Request) -> dict[str, Any]:
    only(request, "POST")
    return parse_json(await read_body(request, MIB))


async def _events(
    chunks: openai.Chunks,
    first: Mapping[str, Any],
    pieces: AsyncIterator[Mapping[str, Any]],
    echo: str,
) -> AsyncIterator[bytes]:
    last = first
    yield chunks.piece(first, echo)
    async for piece in pieces:
        if "error" in piece:
            yield openai.event(ServiceError(*piece["error"]).document())
            return
        last = piece
        yield chunks.piece(piece)
    yield chunks.end(last)


def _checked(found: Mapping[str, Any]) -> Mapping[str, Any]:
    if "error" in found:
        raise ServiceError(*found["error"])
    return found
