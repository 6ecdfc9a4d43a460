"""pydantic's errors in plain words, with file, line and dotted path."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from cluster.spec.grammar import show
from cluster.spec.problems import Problem, did_you_mean
from cluster.spec.section import Section, keys
from cluster.spec.tree import Tree

Path = tuple[str | int, ...]
Finding = tuple[str, Path]
"""What is wrong, and the path of the key that is to be changed."""
_BOUNDS = {"greater_than": "above", "greater_than_equal": "at least"} | {
    "less_than": "below",
    "less_than_equal": "at most",
}
_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text; put it in quotes if it is one",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a map",
}


class Locator:
    """The plain values of a merged tree, and where each was written."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.plain: Any = tree.plain()

    def problem(self, message: str, *path: str | int) -> Problem:
        """A problem at a path: the nearest part that was written gives file and line."""
        at = self.tree
        for key in path:
            part = _child(at.value, key)
            if part is None:
                break
            at = part
        return Problem(message, at.file, at.line, at.prefix + dotted(path))


def _child(value: Any, key: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def dotted(path: Sequence[str | int]) -> str:
    """``cluster.pools[0].nodes``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def explain(
    error: ValidationError, plain: Any, sections: dict[int, type[Section]]
) -> list[Finding]:
    """Every error in plain words, and the path in the plain values that it is about."""
    found = []
    for detail in error.errors(include_url=False):
        path, parent = _place(detail["loc"], plain)
        kind = detail["type"]
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            path = (*path, "type") if isinstance(detail["input"], dict) else path
        elif kind == "default_factory_not_called":
            continue  # what it depends on has an error of its own
        found.append((_message(detail, path, sections.get(id(parent))), path))
    return found


def _place(loc: tuple[int | str, ...], plain: Any) -> tuple[Path, Any]:
    """The path in the file, without pydantic's marks, and the map or list that holds it."""
    path: list[str | int] = []
    parent, at = None, plain
    for key in loc:
        if isinstance(key, str) and (key.startswith("=") or key == "[key]"):
            continue
        if not isinstance(at, dict | list | tuple) or (isinstance(at, list) and key == "source"):
            break  # a shorthand stands where the map would be
        path.append(key)
        parent, at = at, _child(at, key)
    return tuple(path), parent


def _message(detail: Any, path: Path, section: type[Section] | None) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + did_you_mean(str(path[-1]), keys(section) if section else ())
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _choice(detail["input"], _expected(context["expected"]))
    if kind == "union_tag_invalid":
        tags = [
            tag.strip().strip("'").removeprefix("=") for tag in context["expected_tags"].split(",")
        ]
        return _choice(context["tag"].removeprefix("="), tags)
    if kind in _BOUNDS:
        bound = next(context[key] for key in ("gt", "ge", "lt", "le") if key in context)
        return f"{show(detail['input'])} must be {_BOUNDS[kind]} {bound:g}"
    if kind in _WANTED:
        return f"{show(detail['input'])} is not {_WANTED[kind]}"
    if kind in ("model_type", "model_attributes_type"):
        return f"{show(detail['input'])} is not a map of keys"
    if kind == "too_short":
        return "is empty"
    if kind == "too_long":
        return f"has {context['actual_length']} items; allowed: {context['max_length']}"
    return str(detail["msg"])[:1].lower() + str(detail["msg"])[1:]


def _expected(text: str) -> list[str]:
    return [word.strip().strip("'") for word in text.replace(" or ", ", ").split(",")]


def _choice(value: object, allowed: Sequence[str]) -> str:
    hint = did_you_mean(str(value), allowed)
    if len(allowed) == 1:
        hint = f"; allowed: {allowed[0]}"
    return f"{show(value)} is not allowed here{hint}"
