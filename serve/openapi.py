"""The description of the HTTP interface, generated from the routes and the models there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.tasks import TASKS

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
STOP: Schema = {"type": "string", "minLength": 1}
SCORES: Schema = {
    "type": "array",
    "items": {"type": "object", "properties": {"label": TEXT, "score": NUMBER}},
}
INPUTS: dict[tuple[str, str], Schema] = {
    ("recommendation", "next-item"): {
        "type": "object",
        "properties": {"user": {}, "history": {"type": "array", "items": {}}},
    },
    ("recommendation", "rating"): {"type": "object", "properties": {"user": {}, "item": {}}},
}


def optional(kind: str, **bounds: Any) -> Schema:
    """Clients send null for what they leave open."""
    return {"type": [kind, "null"], **bounds}


PARAMETERS: dict[tuple[str, str], Schema] = {
    ("text", "generation"): {
        "max_new_tokens": optional("integer", minimum=1, maximum=4096),
        "temperature": optional("number", minimum=0, maximum=100),
        "top_p": optional("number", minimum=0, maximum=1),
        "top_k": optional("integer", minimum=0),
        "seed": optional("integer"),
        "stop": {"type": ["array", "string", "null"], "minLength": 1, "items": STOP},
        "return_full_text": optional("boolean"),
    },
    ("text", "classification"): {"top_k": optional("integer", minimum=1)},
    ("text", "masked-lm"): {"top_k": optional("integer", minimum=1)},
    ("vision", "classification"): {"top_k": optional("integer", minimum=1)},
    ("recommendation", "next-item"): {"top_k": {"type": "integer", "minimum": 1, "maximum": 1000}},
}
ANSWERS: dict[tuple[str, str], Schema] = {
    ("text", "generation"): {
        "type": "array",
        "items": {"type": "object", "properties": {"generated_text": TEXT}},
    },
    ("text", "classification"): {"type": "array", "items": SCORES},
    ("vision", "classification"): SCORES,
    ("speech", "recognition"): {"type": "object", "properties": {"text": TEXT}},
    ("recommendation", "next-item"): {
        "type": "array",
        "items": {"type": "object", "properties": {"item": {}, "score": NUMBER}},
    },
}
ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message", "code"],
            "properties": {"type": TEXT, "message": TEXT, "code": TEXT},
        }
    },
}
REFUSALS = (400, 401, 404, 405, 408, 413, 415, 422, 429, 500, 503, 504)
MEANINGS = {
    400: "malformed",
    401: "no token, or an unknown one",
    404: "no such model, version or address",
    405: "another method is needed",
    408: "the body arrived too slowly",
    413: "too large",
    415: "a kind of body that is not taken",
    422: "the model cannot answer this",
    429: "the client's own limit",
    500: "a failure of ours",
    503: "overloaded, or not ready; see Retry-After",
    504: "no answer in time",
}


def describe(models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, Any] = {
        "/healthz": {"get": _open("Alive", "lifecycle")},
        "/readyz": {"get": _open("Ready: every model answers", "lifecycle")},
        "/v1/models": {"get": _operation("The models", "OpenAI", None, {"type": "object"})},
        **_v1({(str(m["domain"]), str(m["task"])) for m in models.values()}),
    }
    for name, model in models.items():
        paths[f"/models/{name}"] = {"post": _model(name, (model["domain"], model["task"]))}
    return {
        "openapi": "3.1.0",
        "info": {"title": "slipway services", "version": "1"},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": ERROR},
        },
    }


def _model(name: str, kind: tuple[str, str]) -> dict[str, Any]:
    task = TASKS[kind]
    inputs = INPUTS.get(kind, TEXT if not task.media else {"type": "string", "format": "byte"})
    schema: Schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": inputs,
            "parameters": optional("object", properties=PARAMETERS.get(kind, {})),
        },
    }
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if task.media:
        content[f"{task.media}/*"] = {"schema": {"type": "string", "format": "binary"}}
    title = f"{name}: {' '.join(kind)}"
    operation = _operation(title, "models", content, ANSWERS.get(kind, {}))
    if kind == ("speech", "synthesis"):
        operation["responses"]["200"]["content"] = {
            "audio/wav": {"schema": {"type": "string", "format": "binary"}}
        }
    return operation


def _v1(kinds: set[tuple[str, str]]) -> dict[str, Any]:
    """OpenAI's routes that the models can answer."""
    found: dict[str, Any] = {}
    model: Schema = {"type": "string"}
    if ("text", "generation") in kinds:
        found["/v1/completions"] = _posted(
            "Continue a prompt",
            {"model": model, "prompt": TEXT, "max_tokens": {"type": "integer", "minimum": 1}}
            | {"stream": {"type": "boolean"}, "temperature": NUMBER, "stop": TEXT},
        )
    if any(domain == "text" for domain, _ in kinds):
        found["/v1/embeddings"] = _posted("Texts as vectors", {"model": model, "input": TEXT})
    if ("speech", "synthesis") in kinds:
        found["/v1/audio/speech"] = _posted(
            "Speak a text", {"model": model, "input": TEXT, "response_format": TEXT}
        )
    if ("speech", "recognition") in kinds:
        form = {"file": {"type": "string", "format": "binary"}, "model": model}
        schema = {"type": "object", "required": ["file", "model"], "properties": form}
        content = {"multipart/form-data": {"schema": schema}}
        operation = _operation("Read a sound", "OpenAI", content, {"type": "object"})
        found["/v1/audio/transcriptions"] = {"post": operation}
    return found


def _posted(summary: str, properties: dict[str, Schema]) -> dict[str, Any]:
    schema: Schema = {"type": "object", "required": ["model"], "properties": properties}
    content = {"application/json": {"schema": schema}}
    return {"post": _operation(summary, "OpenAI", content, {})}


def _open(summary: str, tag: str) -> dict[str, Any]:
    return {**_operation(summary, tag, None, {"type": "object"}), "security": []}


def _operation(
    summary: str, tag: str, content: dict[str, Any] | None, answer: Schema
) -> dict[str, Any]:
    refusals = {
        str(status): {
            "description": MEANINGS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status in REFUSALS
    }
    done = {"description": "answered", "content": {"application/json": {"schema": answer}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "tags": [tag],
        "security": [{"token": []}],
        "responses": {"200": done, **refusals},
    }
    return operation | ({"requestBody": {"required": True, "content": content}} if content else {})
