"""Requests that nobody should send: valid ones, broken in a way that a seed decides."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from serve.samples import picture, tone

ROUTES = (
    "/v1/completions",
    "/v1/embeddings",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/models",
    "/status",
    "/nothing/here",
    "/models/nobody",
    "/%00%ff",
)
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 2**63, "", " ", "\x00", "\ud800", "ﷺ" * 300, [], {}, [[]], [None],
    {"user": None}, {"history": [None, {}]}, {"a": {"b": {}}}, ["a"] * 40,
    "data:image/png;base64,x",
)  # fmt: skip
KEYS = (
    "inputs", "parameters", "model", "prompt", "input", "stream", "max_tokens", "temperature",
    "top_k", "top_p", "stop", "seed", "max_new_tokens", "response_format", "encoding_format", "n",
    "echo", "stream_options", "voice", "return_full_text", "function_to_apply", "speaker",
)  # fmt: skip
BYTES = 300


@dataclass(frozen=True)
class Fuzzed:
    """One request."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def fuzzed(seed: int, count: int, models: dict[str, str]) -> Iterator[Fuzzed]:
    """So many requests; `models`: name to "text", "image", "audio", "events" or "generation"."""
    dice = random.Random(seed)
    for _ in range(count):
        yield _one(dice, models)


def _one(dice: random.Random, models: dict[str, str]) -> Fuzzed:
    name, kind = dice.choice(list(models.items()))
    path = f"/models/{name}" if dice.random() < 0.7 else dice.choice(ROUTES)
    if dice.random() < 0.05:
        path += dice.choice(("@1", "@0", "@latest", "@", "/more", "?x=%ff", "@production@2"))
    document = _valid(name, kind)
    if dice.random() < 0.8:
        document = _bent(dice, document)
    raw = base64.b64decode(_media(kind)) if kind in ("image", "audio") else b""
    body = raw if raw and dice.random() < 0.5 else encode(document)
    headers = {"Content-Type": "application/json"} if body is not raw else {}
    body = dice.choice(BREAKS)(dice, body)
    if dice.random() < 0.1:
        odd = ("text/plain", "image/png", "audio/wav", "multipart/form-data; boundary=x", "é", "")
        headers["Content-Type"] = dice.choice(odd)
    if dice.random() < 0.03:
        headers |= dice.choice(({"X-Session-Id": "s" * 2000}, {"X-Request-Id": "<script>"},
                                {"Content-Encoding": "gzip"}, {"Accept": "nothing"}))  # fmt: skip
    method = dice.choice(("GET", "PUT", "DELETE", "HEAD")) if dice.random() < 0.05 else "POST"
    return Fuzzed(method, path, body, headers)


def encode(document: Any) -> bytes:
    """As JSON, halves of characters included."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _valid(name: str, kind: str) -> dict[str, Any]:
    inputs: Any = {
        "events": {"history": ["film 1", "film 2"]},
        "image": _media(kind),
        "audio": _media(kind),
    }.get(kind, "open a socket")
    short = {"max_new_tokens": 2} if kind == "generation" else {}
    return {"inputs": inputs, "parameters": short, "model": name, "prompt": "a", "input": "a",
            "max_tokens": 2}  # fmt: skip


def _media(kind: str) -> str:
    return base64.b64encode(picture() if kind == "image" else tone(0.1)).decode()


def _bent(dice: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    """With a key that is odd, missing or new; at the top or among the parameters."""
    bent = dict(document)
    place = bent if dice.random() < 0.6 else bent.setdefault("parameters", {}) or bent
    place = dict(place) if place is not bent else bent
    key = dice.choice(KEYS)
    if dice.random() < 0.2:
        place.pop(key, None)
    else:
        place[key] = dice.choice(ODD)
    if place is not bent:
        bent["parameters"] = place
    for limit in ("max_new_tokens", "max_tokens"):  # what is asked for is broken, not just long
        for part in (bent, bent.get("parameters")):
            if isinstance(part, dict) and isinstance(part.get(limit), int) and part[limit] > 4:
                part[limit] = 10**9
    return bent


def _as_it_is(dice: random.Random, body: bytes) -> bytes:
    return body


def _cut(dice: random.Random, body: bytes) -> bytes:
    return body[: dice.randrange(len(body) + 1)]


def _flipped(dice: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(dice.randrange(1, 9)):
        if changed:
            changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def _noise(dice: random.Random, body: bytes) -> bytes:
    return dice.randbytes(dice.randrange(BYTES))


def _deep(dice: random.Random, body: bytes) -> bytes:
    return dice.choice((b"[", b'{"a":')) * dice.randrange(1, 20_000)


def _doubled(dice: random.Random, body: bytes) -> bytes:
    return body + body


def _long(dice: random.Random, body: bytes) -> bytes:
    text = dice.choice(string.printable) * dice.randrange(1, 20_000)
    return encode({"inputs": text, "parameters": {}})


Break = Callable[[random.Random, bytes], bytes]
BREAKS: tuple[Break, ...] = (
    *[_as_it_is] * 6, _cut, _cut, _flipped, _flipped, _noise, _deep, _doubled, _long,
)  # fmt: skip


def wrong_answer(request: Fuzzed, status: int, body: bytes) -> str:
    """What is wrong with an answer; "" where it is as documented.

    Never a 500 of ours; errors have their shape. 503 is how overload is refused, and 504 how what
    takes too long is given up.
    """
    if status < 400:
        return ""
    if status >= 500 and status not in (503, 504):
        return f"{status}: {body[:300]!r}"
    if request.method == "HEAD":
        return ""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"{status} in another shape: {body[:300]!r}"
    if set(error) != {"type", "message", "code"}:
        return f"{status} with {set(error)}"
    return ""
