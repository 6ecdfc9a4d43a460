"""The Serve applications; the only file here that Ray's decorators are in.

`serve.app:build` with {"model": NAME, ...} is the application of one model, with {"front": ...}
the one at `/`. `serve run serve.app:build spec=cluster.yaml` is both in one application.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray.serve
from starlette.requests import Request
from starlette.responses import Response

from cluster.spec import StorageSpec
from cluster.storage import open_storage
from serve import endpoint
from serve.errors import ServiceError
from serve.front import Front
from serve.gateway import Gateway
from serve.replica import Replica, Settings
from serve.tasks import TASKS
from serve.tokens import Client, Tokens
from serve.versions import Shelf


@ray.serve.deployment(name="Model")
class ModelService:
    """A replica of a model behind its own address and behind handles."""

    def __init__(self, args: Mapping[str, Any]) -> None:
        import torch

        from jobs.domains import load

        torch.set_num_threads(args["threads"])
        device = "cuda" if args["accelerators"] and torch.cuda.is_available() else "cpu"
        self.name = args["model"]
        self.kind = args["domain"], args["task"]
        self.gateway = Gateway(_tokens(args))
        storage = open_storage(StorageSpec.model_validate(args["storage"]), args["project"])
        shelf = Shelf(
            storage, self.name, lambda d, t, folder: load(d, t, folder, device), self.kind
        )
        streams, embeddings = _text_extras(self.kind)
        self.replica = Replica(shelf, TASKS[self.kind], streams, embeddings)

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Called before the first request, and whenever traffic or batches change."""
        await self.replica.configure(Settings(**config))
        if not self.replica.shelf.live:
            raise RuntimeError("; ".join(self.replica.shelf.trouble.values()))

    async def __call__(self, request: Request) -> Response:
        """POST /models/NAME."""
        return await self.gateway.respond(request, self._respond)

    async def _respond(self, request: Request, client: Client) -> Response:
        task, answer = self.replica.task, self.replica.answer
        return await endpoint.respond(request, client, self.name, "", task, answer)

    async def answer(
        self, requests: Sequence[Mapping[str, Any]], reference: str, key: str
    ) -> dict[str, Any]:
        """For the front: {"number", "answers"} or {"error"}, as exceptions do not travel well."""
        try:
            number, answers = await self.replica.answer(requests, reference, key)
        except ServiceError as error:
            return {"error": (error.status, error.code, error.message, error.headers)}
        return {"number": number, "answers": answers}

    async def embed(self, texts: Sequence[str], reference: str, key: str) -> dict[str, Any]:
        """As `answer`, of texts to vectors."""
        try:
            number, answers = await self.replica.embed(texts, reference, key)
        except ServiceError as error:
            return {"error": (error.status, error.code, error.message, error.headers)}
        return {"number": number, "answers": answers}

    async def stream(
        self, request: Mapping[str, Any], reference: str, key: str
    ) -> AsyncIterator[dict[str, Any]]:
        """{"number"}, then each piece of a continuation; {"error"} ends it."""
        try:
            number, pieces = await self.replica.stream(request, reference, key)
            yield {"number": number}
            async for piece in pieces:
                yield piece
        except ServiceError as error:
            yield {"error": (error.status, error.code, error.message, error.headers)}

    async def versions(self) -> dict[str, Any]:
        """Alias -> number, and what keeps an alias from its newest version."""
        live = {alias: held.number for alias, held in self.replica.shelf.live.items()}
        return {"live": live, "trouble": self.replica.shelf.trouble}


@ray.serve.deployment(name="Front")
class FrontService:
    """What the models share: /v1, the page, the probes."""

    def __init__(self, args: Mapping[str, Any], handles: Mapping[str, Any] | None = None) -> None:
        self.front = Front(args["models"], Gateway(_tokens(args)), _handles(handles))

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """The models that there are."""
        self.front.models = dict(config["models"])

    async def __call__(self, request: Request) -> Response:
        """Every address that no model has."""
        return await self.front.respond(request)


def build(args: Mapping[str, Any]) -> Any:
    """An application from its arguments."""
    if "spec" in args:
        return _build_all(str(args["spec"]))
    if "model" in args:
        return ModelService.bind(dict(args))  # type: ignore[attr-defined]
    return FrontService.bind(dict(args))  # type: ignore[attr-defined]


def _build_all(path: str) -> Any:
    """One application of all models of a file, for `serve run`."""
    from cluster.spec import load
    from serve.applications import applications
    from serve.verbs import served, token_file_of

    spec = load(Path(path))
    document = applications(spec, served(spec, []), str(token_file_of(spec)))
    models = {
        each["name"]: ModelService.options(  # type: ignore[attr-defined]
            **{k: v for k, v in each["deployments"][0].items() if k != "name"}, name=each["name"]
        ).bind(each["args"])
        for each in document[1:]
    }
    return FrontService.bind(document[0]["args"], models)  # type: ignore[attr-defined]


def _text_extras(kind: tuple[str, str]) -> tuple[Any, Any]:
    """What only text models have: streams for language models, and embeddings."""
    if kind[0] != "text":
        return None, None
    from jobs.domains.text.embedding import Embeddings

    if kind[1] != "generation":
        return None, Embeddings
    from jobs.domains.text.streaming import Streams

    return Streams, Embeddings


def _tokens(args: Mapping[str, Any]) -> Tokens | None:
    return Tokens(Path(os.path.expanduser(args["tokens"]))) if args.get("tokens") else None


def _handles(bound: Mapping[str, Any] | None) -> Any:
    if bound is not None:
        return bound.__getitem__
    return lambda name: ray.serve.get_app_handle(name)
