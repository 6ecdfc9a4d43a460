"""A model as the rest of the services sees it: by HTTP at its own address, and by handles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serve import endpoint
from serve.errors import ServiceError
from serve.gateway import Gateway, session_of
from serve.replica import Replica, Settings
from serve.tokens import Client


class ModelService:
    """A replica behind its own address and behind handles."""

    def __init__(self, name: str, replica: Replica, gateway: Gateway) -> None:
        self.name = name
        self.replica = replica
        self.gateway = gateway

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Called before the first request, and whenever traffic or batches change."""
        await self.replica.configure(Settings(**config))
        if not self.replica.shelf.live:
            raise RuntimeError("; ".join(self.replica.shelf.trouble.values()))

    async def __call__(self, request: Request) -> Response:
        """POST /models/NAME."""
        return await self.gateway.respond(request, self._respond)

    async def _respond(self, request: Request, client: Client) -> Response:
        self.replica.admit(session_of(request, client))
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
