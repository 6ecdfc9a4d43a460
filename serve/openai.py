"""The shapes of OpenAI's API: requests to ours, and our answers to theirs. Pure functions."""

from __future__ import annotations

import base64
import json
import struct
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from serve.errors import too_large, wrong_content
from serve.reading import MOST_INPUTS

IGNORED = ("user", "n", "best_of", "logprobs", "suffix", "presence_penalty", "frequency_penalty")
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (None, 0, False),
    "suffix": (None, ""),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": (None, {}),
}
"""Parameters that are taken only where they change nothing."""


def model_of(document: Mapping[str, Any]) -> str:
    """The model that a request names."""
    name = document.get("model")
    if not isinstance(name, str) or not name:
        raise wrong_content('"model" is missing; GET /v1/models lists them')
    return name


def continuation_requests(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The prompts of POST /v1/completions as requests to a language model."""
    prompts = document.get("prompt", "")
    prompts = prompts if isinstance(prompts, list) else [prompts]
    if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise wrong_content('"prompt" must be a text or a list of texts')
    if len(prompts) > MOST_INPUTS:
        raise too_large(f"{len(prompts)} prompts; at most {MOST_INPUTS} in one request")
    for name, allowed in NEUTRAL.items():
        if name in document and document[name] is not None and document[name] not in allowed:
            raise wrong_content(f'"{name}" other than {allowed[0]!r} is not supported')
    temperature, top_p = document.get("temperature"), document.get("top_p")
    parameters = {
        "max_new_tokens": _or(document.get("max_tokens"), 16),
        "temperature": _or(temperature, 1.0),
        "top_p": _or(top_p, 1.0),
        "seed": document.get("seed"),
        "stop": document.get("stop"),
        "return_full_text": document.get("echo") is True,
    }
    given = {name: value for name, value in parameters.items() if value is not None}
    return [{"inputs": prompt, "parameters": given} for prompt in prompts]


def completion(model: str, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer to POST /v1/completions."""
    choices = [
        choice(each["generated_text"], place, each["finish"]) for place, each in enumerate(answers)
    ]
    return {
        **_head(model),
        "choices": choices,
        "usage": usage(
            sum(each["prompt_tokens"] for each in answers),
            sum(each["new_tokens"] for each in answers),
        ),
    }


def choice(text: str, index: int, finish: str | None) -> dict[str, Any]:
    """One of the choices."""
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def usage(prompt_tokens: int, new_tokens: int) -> dict[str, int]:
    """What a request took, in tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
    }


class Chunks:
    """The events of one streamed completion."""

    def __init__(self, model: str, with_usage: bool) -> None:
        self._head = _head(model)
        self._with_usage = with_usage

    def piece(self, piece: Mapping[str, Any], prefix: str = "") -> bytes:
        """New text; the last one with its reason."""
        one = choice(prefix + piece["text"], 0, piece["finish"])
        return event(
            {**self._head, "choices": [one]} | ({"usage": None} if self._with_usage else {})
        )

    def end(self, last: Mapping[str, Any]) -> bytes:
        """What follows the last piece."""
        spent = b""
        if self._with_usage:
            counts = usage(last["prompt_tokens"], last["new_tokens"])
            spent = event({**self._head, "choices": [], "usage": counts})
        return spent + b"data: [DONE]\n\n"


def event(document: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def embedding_texts(document: Mapping[str, Any]) -> list[str]:
    """The texts of POST /v1/embeddings."""
    given = document.get("input")
    texts = given if isinstance(given, list) else [given]
    checked = [text for text in texts if isinstance(text, str)]
    if not texts or len(checked) < len(texts):
        raise wrong_content('"input" must be a text or a list of texts (not of tokens)')
    if len(texts) > MOST_INPUTS:
        raise too_large(f"{len(texts)} inputs; at most {MOST_INPUTS} in one request")
    if document.get("dimensions") is not None:
        raise wrong_content('"dimensions" is not supported: the model decides')
    return checked


def embeddings(
    model: str, vectors: Sequence[Sequence[float]], tokens: int, form: object
) -> dict[str, Any]:
    """The answer to POST /v1/embeddings, as numbers or as base64 of little-endian floats."""
    if form not in (None, "float", "base64"):
        raise wrong_content('"encoding_format" must be "float" or "base64"')
    packed = [_packed(vector) if form == "base64" else list(vector) for vector in vectors]
    return {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": place, "embedding": each}
            for place, each in enumerate(packed)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _head(model: str) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
    }


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
