"""The application at `/`: what the models share. Each route is read, asked and answered here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve import endpoint, pages
from serve.errors import ServiceError
from serve.figures import Collected
from serve.gateway import Gateway, only
from serve.openapi import describe
from serve.tasks import TASKS, Task
from serve.tokens import Client
from serve.v1 import V1

PROBE_TIMEOUT_S = 5.0
STARTING_S = 90.0
"""A model that sleeps is given so long to start, beside the time that its answer may take."""
Handle = Any
"""Ray Serve's handle of a model's application, or what stands for it in a test."""


class Front:
    """Routes below `/`; models are reached by the handles that `handle_of(name)` gives."""

    def __init__(
        self,
        models: Mapping[str, Mapping[str, Any]],
        gateway: Gateway,
        handle_of: Callable[[str], Handle],
    ) -> None:
        self.models = dict(models)
        """Name -> {"domain", "task", ...}."""
        self.gateway = gateway
        self.handle_of = handle_of
        self.v1 = V1(self)
        self.collected = Collected()
        self._open: dict[str, Callable[[Request, Client], Awaitable[Response]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/openapi.json": self._openapi,
            **{path: self._page for path in pages.PATHS},
        }

    async def respond(self, request: Request) -> Response:
        """The answer to any address below `/`."""
        work = self._open.get(request.url.path)
        if work is not None:
            return await self.gateway.respond(request, work, is_open=True)
        return await self.gateway.respond(request, self._route)

    async def _route(self, request: Request, client: Client) -> Response:
        path = request.url.path
        if path.startswith("/models/"):
            return await self._model(request, client, path.removeprefix("/models/"))
        if path == "/status":
            return await self._status(request)
        route = self.v1.routes.get(path)
        if route is not None:
            return await route(request, client)
        raise ServiceError(404, "not_found", f"there is nothing at {path[:200]}; see /docs")

    async def _healthz(self, request: Request, client: Client) -> Response:
        only(request, "GET", "HEAD")
        return JSONResponse({"status": "alive"})

    async def _readyz(self, request: Request, client: Client) -> Response:
        """Ready when every model that is not asleep has a version that answers."""
        only(request, "GET", "HEAD")
        awake = [name for name, model in self.models.items() if not model.get("sleeps")]
        states = await asyncio.gather(*(self._probe(name) for name in awake))
        waiting = {name: why for name, why in zip(awake, states, strict=True) if why}
        if waiting:
            raise ServiceError(
                503,
                "not_ready",
                "; ".join(f"{name}: {why}" for name, why in waiting.items()),
                {"Retry-After": "2"},
            )
        return JSONResponse({"status": "ready", "models": list(self.models)})

    async def _probe(self, name: str, wanted: str = "") -> str:
        """Why a model does not answer, or what else troubles it; "" where nothing does."""
        try:
            found = await asyncio.wait_for(self.handle_of(name).versions.remote(), PROBE_TIMEOUT_S)
        except Exception as error:
            return str(error) or "it does not answer"
        trouble = "; ".join(found["trouble"].values())
        return trouble if wanted else "" if found["live"] else trouble or "no version"

    async def _status(self, request: Request) -> Response:
        """The versions side by side, and what keeps an alias from its newest version."""
        only(request, "GET")
        awake = [name for name, model in self.models.items() if not model.get("sleeps")]
        troubles = await asyncio.gather(*(self._probe(name, "trouble") for name in awake))
        return JSONResponse(
            {
                "versions": self.collected.summary(self.gateway.figures.counts),
                "trouble": {n: why for n, why in zip(awake, troubles, strict=True) if why},
            }
        )

    async def _openapi(self, request: Request, client: Client) -> Response:
        only(request, "GET", "HEAD")
        return JSONResponse(describe(self.models))

    async def _page(self, request: Request, client: Client) -> Response:
        only(request, "GET", "HEAD")
        return pages.page(request.url.path)

    async def _model(self, request: Request, client: Client, reference: str) -> Response:
        name, _, version = reference.partition("@")
        task = self.task(name)

        async def answer(
            requests: Sequence[Mapping[str, Any]], version: str, key: str
        ) -> tuple[int, list[Any]]:
            return await self.ask(name, "answer", list(requests), version, key)

        return await endpoint.respond(request, client, name, version, task, answer)

    def task(self, name: str) -> Task:
        """The task of a model; 404 with the names that exist."""
        model = self.models.get(name)
        if model is None:
            known = ", ".join(self.models) or "none"
            message = f'there is no model "{name[:80]}"; models: {known}'
            raise ServiceError(404, "model_not_found", message)
        return TASKS[model["domain"], model["task"]]

    async def ask(self, name: str, method: str, *arguments: Any) -> tuple[int, list[Any]]:
        """The version and the answers that a model's replica gives."""
        task = self.task(name)
        asked = getattr(self.handle_of(name), method).remote(*arguments)
        try:
            found = await asyncio.wait_for(asked, task.deadline_s + STARTING_S)
        except TimeoutError:
            raise ServiceError(504, "too_slow", f"{name} did not answer in time") from None
        if "error" in found:
            raise ServiceError(*found["error"])
        return found["number"], found["answers"]
