"""Values that name something kept elsewhere: secrets, models, places of data."""

import os.path
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from cluster.spec.grammar import Scalar, show

NAME = r"[a-z][a-z0-9-]*"
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True)
class Secret(Scalar):
    """``{secret: NAME}`` or ``{secret: NAME/KEY}``: where a secret is kept, never the secret."""

    name: str
    key: str | None = None
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"secret": {"type": "string"}},
        "required": ["secret"],
        "additionalProperties": False,
        "examples": [{"secret": "hf"}],
        "x-kind": "secret",
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        text = value.get("secret") if isinstance(value, dict) and len(value) == 1 else None
        pattern = r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?:/([\w.-]+))?"
        match = re.fullmatch(pattern, text) if isinstance(text, str) else None
        if match is None:  # the value is not repeated: it may be the secret itself
            raise ValueError("must name a secret: {secret: NAME} or {secret: NAME/KEY}")
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{self.name}/{self.key}" if self.key else self.name

    def dump(self) -> Any:
        return {"secret": str(self)}


@dataclass(frozen=True)
class ModelReference(Scalar):
    """``MODEL``, ``MODEL@3``, ``MODEL@production`` or ``MODEL@latest``."""

    name: str
    version: int | str | None = None
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "examples": ["tickets@3", "tickets@production"],
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        pattern = rf"({NAME})(?:@(?:([1-9]\d*)|({NAME})))?"
        match = re.fullmatch(pattern, value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(
                f"{show(value)} is not a model; write MODEL, MODEL@3, MODEL@production "
                "or MODEL@latest"
            )
        return cls(match[1], int(match[2]) if match[2] else match[3])

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def _environment_value(value: object) -> str | Secret:
    if isinstance(value, dict | Secret):
        return Secret._take(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"{show(value)} must be a text or {{secret: NAME}}")


EnvironmentValue = Annotated[
    str | Secret,
    PlainValidator(_environment_value),
    PlainSerializer(lambda value: value.dump() if isinstance(value, Secret) else value),
    WithJsonSchema(
        {
            "anyOf": [{"type": ["string", "number", "boolean"]}, dict(Secret.json_schema)],
            "x-kind": "text or secret",
        }
    ),
]


def _name(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(NAME, value) and len(value) <= 40:
        return value
    raise ValueError(
        f"{show(value)} is not a name; use lower-case letters, digits and dashes, "
        "a letter first, at most 40 characters"
    )


Name = Annotated[
    str, PlainValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME}$"})
]


def is_uri(text: str) -> bool:
    """Whether a place is a URI (``s3://...``, ``builtin:NAME``) and not a path."""
    return bool(_SCHEME.match(text))


def absolute(text: str, info: ValidationInfo) -> str:
    """A path made absolute from the spec's folder; URIs stay as they are."""
    if is_uri(text):
        return text
    root = info.context["root"] if info.context else Path.cwd()
    return os.path.normpath(root / Path(text).expanduser())


def _place(value: object, info: ValidationInfo) -> object:
    if value == "":
        raise ValueError("is empty; write a path or a URI")
    return absolute(value, info) if isinstance(value, str) else value


Place = Annotated[str, BeforeValidator(_place)]
"""A path (absolute once read) or a URI."""
