"""A client that sends a byte a second, or goes, holds nothing up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from serve.errors import ServiceError
from serve.reading import parse_json, read_body
from serve.sound import sentences


def read(messages: list[dict[str, Any]], gap_s: float = 0.0, **headers: str) -> bytes:
    waiting = iter(messages)

    async def receive() -> Any:
        await asyncio.sleep(gap_s)
        return next(waiting)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)
    return asyncio.run(read_body(request, 1000, timeout_s=0.2))


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts_is_put_together() -> None:
    assert read([part(b"ab"), part(b"cd", False)]) == b"abcd"


@pytest.mark.parametrize(
    ("messages", "gap_s", "headers", "status"),
    [
        ([part(b"a")] * 100, 0.05, {}, 408),
        ([part(b"a"), {"type": "http.disconnect"}], 0, {}, 499),
        ([], 0, {"content_length": "1001"}, 413),
        ([], 0, {"content_length": "many"}, 400),
        ([part(b"a" * 600), part(b"a" * 600), part(b"never asked for")], 0, {}, 413),
    ],
)
def test_what_is_refused(
    messages: list[dict[str, Any]], gap_s: float, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(ServiceError) as caught:
        read(messages, gap_s, **headers)
    assert caught.value.status == status


def test_half_a_character_is_refused_and_a_whole_one_read() -> None:
    assert parse_json(rb'{"inputs": "\ud83d\ude00"}') == {"inputs": "😀"}
    for body in (rb'{"inputs": "\ud800"}', rb'{"a": ["\udc00"]}', rb'{"\ud800": 1}'):
        with pytest.raises(ServiceError, match="surrogate") as caught:
            parse_json(body)
        assert caught.value.status == 400


def test_texts_are_spoken_by_sentences() -> None:
    assert sentences("Yes. No?! Maybe") == ["Yes.", "No?!", "Maybe"]
    assert sentences("") == [""]
