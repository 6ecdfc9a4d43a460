"""The application at `/`: what the models share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve import endpoint
from serve.errors import ServiceError
from serve.gateway import Gateway, only
from serve.tasks import TASKS, Task
from serve.tokens import Client

READY_TIMEOUT_S = 5.0


class Front:
    """Routes below `/`; models are reached by handles that `handle_of(name)` gives."""

    def __init__(
        self,
        models: Mapping[str, Mapping[str, Any]],
        gateway: Gateway,
        handle_of: Callable[[str], Any],
    ) -> None:
        self.models = dict(models)
        """Name -> {"domain", "task", ...}."""
        self.gateway = gateway
        self.handle_of = handle_of

    async def respond(self, request: Request) -> Response:
        """The answer to any address below `/`."""
        path = request.url.path
        if path == "/healthz":
            return await self.gateway.respond(request, self._healthz, is_open=True)
        if path == "/readyz":
            return await self.gateway.respond(request, self._readyz, is_open=True)
        return await self.gateway.respond(request, self._route)

    async def _route(self, request: Request, client: Client) -> Response:
        path = request.url.path
        if path.startswith("/models/"):
            return await self._model(request, client, path.removeprefix("/models/"))
        if path == "/v1/models":
            return self._list(request)
        raise ServiceError(404, "not_found", f"there is nothing at {path}; see /docs")

    async def _healthz(self, request: Request, client: Client) -> Response:
        only(request, "GET", "HEAD")
        return JSONResponse({"status": "alive"})

    async def _readyz(self, request: Request, client: Client) -> Response:
        only(request, "GET", "HEAD")
        return JSONResponse({"status": "ready"})

    def _list(self, request: Request) -> Response:
        only(request, "GET")
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "slipway"}
            for name in self.models
        ]
        return JSONResponse({"object": "list", "data": data})

    async def _model(self, request: Request, client: Client, reference: str) -> Response:
        name, _, version = reference.partition("@")
        task = self._task(name)

        async def answer(
            requests: Sequence[Mapping[str, Any]], reference: str, key: str
        ) -> tuple[int, list[Any]]:
            return await self.answer(name, requests, reference, key)

        return await endpoint.respond(request, client, name, version, task, answer)

    def _task(self, name: str) -> Task:
        model = self.models.get(name)
        if model is None:
            known = ", ".join(self.models) or "none"
            message = f'there is no model "{name[:80]}"; models: {known}'
            raise ServiceError(404, "model_not_found", message)
        return TASKS[model["domain"], model["task"]]

    async def answer(
        self, name: str, requests: Sequence[Mapping[str, Any]], reference: str, key: str
    ) -> tuple[int, list[Any]]:
        """The answers of a model's replica."""
        task = self._task(name)
        asked = self.handle_of(name).answer.remote(list(requests), reference, key)
        try:
            found = await asyncio.wait_for(asked, task.deadline_s + 60)
        except TimeoutError:
            raise ServiceError(504, "too_slow", f"{name} did not answer in time") from None
        if "error" in found:
            raise ServiceError(*found["error"])
        return found["number"], found["answers"]
