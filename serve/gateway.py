"""What every route shares: tokens, request ids, the shape of errors, a log line."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve.content import Content
from serve.errors import ServiceError
from serve.figures import Figures
from serve.tokens import Client, Tokens

log = logging.getLogger("ray.serve")
ID = re.compile(r"[\w.:-]{1,128}")
Work = Callable[[Request, Client], Awaitable[Response]]
NOBODY = Client("")
TELL_S = 1.0


class Gateway:
    """Lets requests in and answers out; nothing that a client sends becomes a 500 of ours."""

    def __init__(
        self, tokens: Tokens | None, figures: Figures | None = None, model: str = ""
    ) -> None:
        self.tokens = tokens
        self.figures = figures or Figures()
        self.model = model
        """Whose refusals are counted where no version has seen the request."""
        self._refused, self._told = 0, 0.0

    async def respond(self, request: Request, work: Work, is_open: bool = False) -> Response:
        """The answer of `work`, or the error in our shape, with the headers that all carry."""
        started = time.perf_counter()
        given = request.headers.get("x-request-id", "")
        request_id = given if ID.fullmatch(given) else uuid.uuid4().hex
        client = NOBODY
        try:
            if self.tokens is not None and not is_open:
                client = self.tokens.client(request.headers.get("authorization"))
            response = await work(request, client)
        except ServiceError as error:
            response = refusal(error)
        except asyncio.CancelledError:
            self._log(request, client, request_id, 499, started)
            raise
        except Exception:
            log.exception("request %s failed", request_id)
            response = refusal(ServiceError(500, "failed", f"internal error; id {request_id}"))
        response.headers["x-request-id"] = request_id
        if not is_open:
            self._log(request, client, request_id, response.status_code, started, response)
        return response

    def _log(
        self,
        request: Request,
        client: Client,
        request_id: str,
        status: int,
        started: float,
        response: Response | None = None,
    ) -> None:
        """One line of JSON; never what was sent or answered."""
        version = response.headers.get("x-model-version", "") if response is not None else ""
        if status == 503:  # one line a second for all: an overload must not drown in its own log
            self._refused += 1
            if time.monotonic() - self._told < TELL_S:
                self._count(version, status, started)
                return
        line: dict[str, Any] = {
            "request_id": request_id,
            "client": client.name,
            "method": request.method,
            "path": request.url.path,
            "status": status,
            "ms": round((time.perf_counter() - started) * 1e3, 1),
            "version": version,
        }
        if status == 503:
            line["refused"], self._refused, self._told = self._refused, 0, time.monotonic()
        log.info(json.dumps(line))
        self._count(version, status, started)

    def _count(self, version: str, status: int, started: float) -> None:
        ms = round((time.perf_counter() - started) * 1e3, 1)
        self.figures.observe(version or (f"{self.model}@" if self.model else ""), status, ms)


def refusal(error: ServiceError) -> Response:
    """An error as a response."""
    return JSONResponse(error.document(), error.status, error.headers)


def answered(content: Content, version: str) -> Response:
    """An answer as a response, with the version that gave it."""
    headers = {"x-model-version": version}
    if content.media_type == "application/json":
        return JSONResponse(content.body, 200, headers)
    return Response(content.body, 200, headers, content.media_type)


def session_of(request: Request, client: Client) -> str:
    """What a share of the traffic is sticky by: the session if one is sent, else the client."""
    return request.headers.get("x-session-id") or client.name or "anybody"


def only(request: Request, *methods: str) -> None:
    """405 for other methods."""
    if request.method not in methods:
        message = f"{request.method} is not for this address; use {', '.join(methods)}"
        raise ServiceError(405, "method_not_allowed", message, {"Allow": ", ".join(methods)})
