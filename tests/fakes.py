"""What stands for a trained model and for Ray's handles where services are tested without them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from starlette.requests import Request

from jobs.domains import Columns
from serve.errors import ServiceError
from serve.front import Front
from serve.gateway import Gateway
from serve.model import ModelService
from serve.replica import Replica
from serve.tasks import TASKS
from serve.tokens import Tokens
from serve.versions import Held


class FakeLoaded:
    """Answers a text with its length and who shared its batch; "bad" is refused, "boom" fails."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()

    def row(self, request: Mapping[str, Any]) -> Columns:
        text = request.get("inputs")
        if not isinstance(text, str) or text == "bad":
            raise ValueError('"inputs" must be a good text')
        return {"tokens": np.zeros((1, max(1, len(text))), np.int64)}

    def answers(self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        texts = [str(request["inputs"]) for request in requests]
        self.batches.append(texts)
        self.threads.add(threading.current_thread().name)
        time.sleep(self.delay_s)
        if "boom" in texts:
            raise RuntimeError("the network failed")
        return [[[{"label": text, "score": 1.0}]] for text in texts]

    def answer(self, request: Mapping[str, Any]) -> Any:
        return self.answers([self.row(request)], [request])[0]


class FakeStreams:
    """Continues a prompt with its own words, one at a time."""

    most = 2

    def __init__(self, loaded: Any) -> None:
        self.ended = 0

    async def write(self, request: Mapping[str, Any]) -> AsyncIterator[Any]:
        if not isinstance(request.get("inputs"), str):
            raise ValueError('"inputs" must be a text')
        words = request["inputs"].split()
        try:
            for place, word in enumerate(words):
                await asyncio.sleep(0)
                finish = "length" if place == len(words) - 1 else None
                yield SimpleNamespace(
                    text=f" {word}", finish=finish, prompt_tokens=len(words), new_tokens=place + 1
                )
        finally:
            self.ended += 1

    def close(self) -> None:
        pass


class FakeHandle:
    """Calls a service directly, as Ray's handle does from afar."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._service, name))

    def options(self, stream: bool) -> FakeHandle:
        return self


class FakeShelf:
    """One version, in memory."""

    def __init__(self, model: str, loaded: Any) -> None:
        self.model = model
        self.held = Held(1, loaded, {})
        self.trouble: dict[str, str] = {}
        self.live = {"production": self.held}

    def share(self, shares: Mapping[str, float]) -> None:
        pass

    def refresh(self) -> bool:
        return False

    def pick(self, key: str) -> Held:
        return self.held

    def find(self, reference: str) -> Held:
        if reference != "1":
            raise ServiceError(404, "version_not_found", "m has no version; write one of: 1")
        return self.held


def fake_front(tokens: Path, loaded: Any, kind: tuple[str, str]) -> tuple[Front, ModelService]:
    """A front over one model "m"."""
    gateway = Gateway(Tokens(tokens))
    shelf: Any = FakeShelf("m", loaded)
    replica = Replica(shelf, TASKS[kind], FakeStreams if kind[1] == "generation" else None)
    service = ModelService("m", replica, gateway)
    models = {"m": {"domain": kind[0], "task": kind[1]}}
    return Front(models, gateway, lambda name: FakeHandle(service)), service


def as_app(respond: Any) -> Any:
    """An ASGI application from what answers a request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            response = await respond(Request(scope, receive))
            await response(scope, receive, send)

    return app
