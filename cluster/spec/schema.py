"""The JSON Schema for editors, and the reference of every key.

``python -m cluster.spec.schema > cluster/README.md`` writes the reference anew;
``python -m cluster.spec.schema --json`` prints the schema.
"""

import ast
import inspect
import json
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BeforeValidator
from pydantic.json_schema import PydanticJsonSchemaWarning

from cluster.spec.document import Spec
from cluster.spec.prose import PROSE
from cluster.spec.section import Section, as_list
from cluster.spec.tune import Dimension

Json = dict[str, Any]


def json_schema() -> Json:
    """The JSON Schema (2020-12) of the file, shorthands included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        schema = Spec.model_json_schema(by_alias=True)
    _tidy(schema)
    definitions: Json = schema["$defs"]
    for section in _sections(Section):
        if section is Spec:
            _describe(section, schema)
        elif section.__name__ in definitions:
            _describe(section, definitions[section.__name__])
            definitions[section.__name__] = _with_short(section, definitions[section.__name__])
    schema["properties"]["environments"] = {
        "type": "object",
        "additionalProperties": {"type": ["object", "null"]},
        "default": {},
        "description": "Name to what is laid over the file by -e NAME.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _sections(root: type[Section]) -> Iterator[type[Section]]:
    for section in root.__subclasses__():
        yield section
        yield from _sections(section)


def _tidy(part: Any) -> None:
    """Takes out generated titles, and lets unions overlap (a type may be left out)."""
    for each in part.values() if isinstance(part, dict) else part:
        if isinstance(each, dict | list):
            _tidy(each)
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        if "oneOf" in part:
            part["anyOf"] = part.pop("oneOf")


def _describe(section: type[Section], schema: Json) -> None:
    documentation = _documentation(section)
    for name, field in section.model_fields.items():
        shown = schema["properties"][field.alias or name]
        if any(isinstance(m, BeforeValidator) and m.func is as_list for m in field.metadata):
            items = {key: shown.pop(key) for key in ("type", "items", "minItems") if key in shown}
            shown["anyOf"] = [items["items"], items]
        shown["description"] = documentation[name]
        if field.default_factory is None and not field.is_required():
            shown["default"] = _written(field.default)
        elif field.default_factory is not None and field.default_factory is dict:
            shown["default"] = {}


def _written(default: Any) -> Any:
    if isinstance(default, Section):
        return default.model_dump(by_alias=True, exclude_unset=True)
    return default.dump() if hasattr(default, "dump") else default


def _with_short(section: type[Section], schema: Json) -> Json:
    if section is Dimension:
        return {"anyOf": [{"type": "array", "minItems": 1}, schema]}
    if section.short is None:
        return schema
    scalar = {k: v for k, v in schema["properties"][section.short].items() if k != "description"}
    return {"anyOf": [scalar, schema]}


@cache
def _documentation(section: type[Section]) -> dict[str, str]:
    """The text under each field, from the source: nothing is paid for it at import."""
    texts: dict[str, str] = {}
    for parent in reversed(section.__mro__[:-1]):
        if issubclass(parent, Section):
            for node in _classes(parent.__module__).get(parent.__name__, []):
                texts |= node
    return texts


@cache
def _classes(module: str) -> dict[str, list[dict[str, str]]]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        node.name: [
            {field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")}
            for field, text in zip(node.body, node.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ]
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def reference() -> str:
    """``cluster/README.md``: how the file works, and a table for each of its maps."""
    schema = json_schema()
    parts = [PROSE.rstrip()]
    for heading, text, table in _tables("", schema, schema["$defs"]):
        parts.append(f"### {heading}\n\n{text}\n\n{table}" if heading else table)
    return "\n\n".join(parts) + "\n"


def _tables(path: str, schema: Json, definitions: Json) -> Iterator[tuple[str, str, str]]:
    for part in _maps(schema, definitions):
        required = part.get("required", [])
        rows = [
            f"| `{key}` | {_kind(each, definitions)} | {_default(key, each, required)} | "
            f"{_cell(each['description'])} |"
            for key, each in part["properties"].items()
        ]
        table = "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows])
        yield _heading(path, part), part.get("description", ""), table
        for key, each in part["properties"].items():
            for below, child in _children(f"{path}.{key}".lstrip("."), each):
                yield from _tables(below, child, definitions)


def _heading(path: str, part: Json) -> str:
    kind = part["properties"].get("type", {}).get("const")
    return f"`{path}`" + (f" of type {kind}" if kind else "") if path else ""


def _maps(schema: Json, definitions: Json) -> Iterator[Json]:
    """The maps that a schema allows, references followed."""
    if "$ref" in schema:
        yield from _maps(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    elif "x-kind" not in schema:
        if "properties" in schema:
            yield schema
        for each in schema.get("anyOf", []):
            yield from _maps(each, definitions)


def _children(path: str, schema: Json) -> Iterator[tuple[str, Json]]:
    yield path, schema
    for each in [schema, *schema.get("anyOf", [])]:
        if isinstance(each.get("items"), dict):
            yield f"{path}[]", each["items"]
        below = [each.get("additionalProperties"), *each.get("patternProperties", {}).values()]
        name = "KEY" if path.endswith("space") else "NAME"
        yield from ((f"{path}.{name}", child) for child in below if isinstance(child, dict))


def _kind(schema: Json, definitions: Json) -> str:
    if "x-kind" in schema:
        return str(schema["x-kind"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        kinds = dict.fromkeys(_kind(each, definitions) for each in schema["anyOf"])
        scalars = ", ".join(kind for kind in kinds if kind not in ("null", "map"))
        return " or ".join(part for part in (scalars, "map" if "map" in kinds else "") if part)
    if schema.get("type") == "array":
        each = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_kind(each, definitions)}" if each else "list"
    words = {"string": "text", "integer": "whole number", "object": "map", "boolean": "true, false"}
    types = schema.get("type", "any value")
    types = types if isinstance(types, list) else [types]
    return " or ".join(words.get(str(each), str(each)) for each in types)


def _default(key: str, schema: Json, required: list[str]) -> str:
    if key in required:
        return "required"
    value = schema.get("default")
    if value is not None and schema.get("x-kind") in ("duration", "share or path", "share"):
        return f"`{value:g}s`" if schema["x-kind"] == "duration" else f"`{value * 100:g}%`"
    if value is None or value in ({}, [], ()):
        return ""
    return f"`{json.dumps(value) if isinstance(value, dict | list | tuple | bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    if "--json" in sys.argv[1:]:
        sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    else:
        sys.stdout.write(reference())
