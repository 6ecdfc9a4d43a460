"""A model's own address, /models/NAME: a body in, the task's answer out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from serve.content import Content
from serve.gateway import answered, only, session_of
from serve.reading import read_body, read_requests
from serve.tasks import Task, shaped
from serve.tokens import Client

Answer = Callable[[Sequence[Mapping[str, Any]], str, str], Awaitable[tuple[int, list[Any]]]]
"""(requests, reference, key) to the version's number and its answers."""


async def respond(
    request: Request, client: Client, name: str, reference: str, task: Task, answer: Answer
) -> Response:
    """Reads Hugging Face's request, has it answered, and shapes what comes back."""
    only(request, "POST")
    body = await read_body(request, task.limit_bytes)
    requests, several = read_requests(task, body, request.headers.get("content-type", ""))
    number, answers = await answer(requests, reference, session_of(request, client))
    contents = [shaped(task, each) for each in answers]
    return answered(joined(contents) if several else contents[0], f"{name}@{number}")


def joined(contents: Sequence[Content]) -> Content:
    """The answers to a list of inputs as one list, as Hugging Face's API flattens them."""
    bodies = [content.body for content in contents]
    if all(isinstance(body, list) and len(body) == 1 for body in bodies):
        return Content([body[0] for body in bodies])
    return Content(bodies)
