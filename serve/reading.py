"""Bodies of requests: read within limits of size and time, before anything is made of them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from serve.errors import ServiceError, malformed, too_large, wrong_content
from serve.tasks import Task

READ_TIMEOUT_S = 30.0
"""A body must have arrived by then: one that trickles in holds nothing up."""
MOST_INPUTS = 32
FOREIGN = ("image/", "audio/", "video/", "multipart/", "application/octet-stream")
"""Media types that are not JSON; everything else is taken for it, as `curl -d` sends a form's."""


async def read_body(request: Request, limit_bytes: int, timeout_s: float = READ_TIMEOUT_S) -> bytes:
    """The whole body; ServiceError where it is too large, too slow or broken off."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ServiceError(415, "unsupported_encoding", "send the body without compression")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise malformed("content-length is not a number")
    if int(declared) > limit_bytes:
        raise _too_many_bytes(limit_bytes)
    parts, size = [], 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                size += len(part)
                if size > limit_bytes:
                    raise _too_many_bytes(limit_bytes)
                parts.append(part)
    except TimeoutError:
        message = f"the body did not arrive within {timeout_s:g} s"
        raise ServiceError(408, "too_slow", message, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise ServiceError(499, "closed", "the client hung up") from None
    return b"".join(parts)


def parse_json(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; 400 where it is not one."""
    if not body.strip():
        raise malformed("the body is empty; send a JSON object")
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise malformed("the body is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise malformed(f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise malformed("the body must be a JSON object")
    if b"\\u" in body and not _is_unicode(document):
        raise malformed("the body holds half of a surrogate pair, which is no character")
    return document


def _is_unicode(document: dict[str, Any]) -> bool:
    """Whether all texts are: JSON's escapes can name halves of characters, which nothing reads."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def read_requests(task: Task, body: bytes, media_type: str) -> tuple[list[dict[str, Any]], bool]:
    """The requests of a Hugging Face body, and whether they came as a list.

    Tasks on pictures and sound take bytes, whatever their type is called, or JSON with base64.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if task.media and kind != "application/json":
        if kind.startswith(("text/", "multipart/")):
            message = f"send the {task.media} itself as the body, or base64 in JSON"
            raise ServiceError(415, "unsupported_media", message)
        if not body:
            raise malformed(f"the body is empty; send the {task.media}'s bytes")
        return [{"inputs": body, "parameters": {}}], False
    if kind.startswith(FOREIGN):
        raise ServiceError(415, "unsupported_media", "this model takes application/json")
    return _from_json(task, parse_json(body))


def _from_json(task: Task, document: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    if "inputs" not in document:
        raise wrong_content('"inputs" is missing')
    parameters = document.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise wrong_content('"parameters" must be an object')
    inputs, several = document["inputs"], isinstance(document["inputs"], list)
    values = inputs if several else [inputs]
    if not values:
        raise wrong_content('"inputs" is empty')
    if len(values) > MOST_INPUTS:
        raise too_large(f"{len(values)} inputs; at most {MOST_INPUTS} in one request")
    if task.media:
        values = [_from_base64(value, task.media) for value in values]
    return [{"inputs": value, "parameters": parameters} for value in values], several


def _from_base64(value: object, media: str) -> bytes:
    if not isinstance(value, str):
        raise wrong_content(f'"inputs" must be the {media} in base64')
    try:
        return base64.b64decode(
            value.partition(",")[2] if value[:5] == "data:" else value, None, True
        )
    except (binascii.Error, ValueError):
        raise wrong_content(f'"inputs" is not base64 of a {media}') from None


def _too_many_bytes(limit_bytes: int) -> ServiceError:
    error = too_large(f"the body is larger than {limit_bytes // 2**20} MiB")
    error.headers["Connection"] = "close"  # what is left of the body is not read
    return error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
