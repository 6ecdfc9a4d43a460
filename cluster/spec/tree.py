"""YAML 1.2 as a tree whose every part knows its line."""

import io
import math
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from cluster.spec.problems import Problem, SpecError

LARGEST_BYTES = 1 << 20
LARGEST_NODES = 20_000


@dataclass
class Tree:
    """A map of trees, a list of trees, or a scalar; and where it was written."""

    value: Any
    file: str
    line: int | None
    prefix: str = ""
    """What stands before the path of it, for parts that come from an environment."""

    def plain(self) -> Any:
        """Dicts, lists and scalars. Aliased parts become copies."""
        if isinstance(self.value, dict):
            return {key: part.plain() for key, part in self.value.items()}
        if isinstance(self.value, list):
            return [part.plain() for part in self.value]
        return self.value


def read_yaml(text: str, file: str) -> Tree | None:
    """The one document in ``text``; None when it is empty. Raises SpecError."""
    try:
        root = YAML(typ="safe", pure=True).compose(io.StringIO(text))
        return None if root is None else _Reader(file).tree(root, root.start_mark.line + 1)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise SpecError([Problem(_in_words(error, text, line), file, line)]) from None
    except YAMLError as error:
        raise SpecError([Problem(f"not valid YAML: {_first_line(error)}", file)]) from None
    except RecursionError:
        raise SpecError([Problem("is nested too deeply", file)]) from None


def write_yaml(value: Any) -> str:
    """YAML of dicts, lists and scalars."""
    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    yaml.dump(value, out)
    return out.getvalue()


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.open: list[int] = []
        self.nodes = 0

    def tree(self, node: Any, line: int) -> Tree:
        self.nodes += 1
        if self.nodes > LARGEST_NODES:
            raise self.error("has too many parts; aliases may repeat too much", line)
        if id(node) in self.open:
            raise self.error(f'"*{node.anchor}" holds itself', line)
        if isinstance(node, ScalarNode):
            return Tree(self.scalar(node, line), self.file, line)
        self.open.append(id(node))
        try:
            value = self.map(node) if isinstance(node, MappingNode) else self.list(node)
        finally:
            self.open.pop()
        return Tree(value, self.file, line)

    def list(self, node: SequenceNode) -> list[Tree]:
        self.refuse_tag(node, "tag:yaml.org,2002:seq")
        return [self.tree(item, item.start_mark.line + 1) for item in node.value]

    def map(self, node: MappingNode) -> dict[str, Tree]:
        self.refuse_tag(node, "tag:yaml.org,2002:map")
        parts: dict[str, Tree] = {}
        merged: dict[str, Tree] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise self.error("a key must be a text", line)
            if key.tag == "tag:yaml.org,2002:merge":
                merged = self.merge(value, line) | merged
            elif key.value in parts:
                first = parts[key.value].line
                raise self.error(f'"{key.value}" stands here twice; first in line {first}', line)
            else:
                parts[key.value] = self.tree(value, line)
        return merged | parts

    def merge(self, node: Any, line: int) -> dict[str, Tree]:
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Tree] = {}
        for each in nodes:
            value = self.tree(each, line).value
            if not isinstance(value, dict):
                raise self.error('"<<" needs a map', line)
            merged = value | merged
        return merged

    def scalar(self, node: ScalarNode, line: int) -> Any:
        text: str = node.value
        match str(node.tag).removeprefix("tag:yaml.org,2002:"):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return _whole(text)
            case "float":
                return _decimal(text)
            case "str" | "timestamp" | "value" | "merge":
                return text
            case tag:
                raise self.error(f"the tag {tag} is not known; leave it away", line)

    def refuse_tag(self, node: Any, usual: str) -> None:
        if str(node.tag) != usual:
            line = node.start_mark.line + 1
            raise self.error(f"the tag {node.tag} is not known; leave it away", line)

    def error(self, message: str, line: int) -> SpecError:
        return SpecError([Problem(message, self.file, line)])


def _whole(text: str) -> int | str:
    digits = text.replace("_", "").lower()
    try:
        return int(digits, 0 if digits.lstrip("+-").startswith(("0x", "0o")) else 10)
    except ValueError:
        return text


def _decimal(text: str) -> float | str:
    digits = text.replace("_", "").lower()
    special = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
    try:
        return special[digits] if digits in special else float(digits)
    except ValueError:
        return text


def _in_words(error: MarkedYAMLError, text: str, line: int | None) -> str:
    """ruamel.yaml's error, in words that say what to change."""
    problem = str(error.problem or error.context or "unknown cause")
    source = "".join(text.splitlines()[line - 1 : line]) if line else ""
    if "alias" in problem or "alias" in str(error.context):
        return _star(source, problem)
    if r"'\t'" in problem:
        return "a tab; indent with spaces"
    if "another document" in problem:
        return "a second document begins here (---); keep one to a file"
    if "cannot start any token" in problem:
        sign = problem.split("'")[1]
        return f'a value that starts with {sign} must be quoted: "{sign}..."'
    context = f" {error.context}" if error.context and error.context != problem else ""
    return f"not valid YAML: {problem}{context}"


def _star(source: str, problem: str) -> str:
    word = next((w for w in source.replace(",", " ").split() if w.strip("[{").startswith("*")), "")
    word = word.strip("[]{}")
    if problem.startswith("found undefined alias") and word[1:].isidentifier():
        return f'{word} names no anchor; write "{word}" in quotes if it is a text'
    return f'a value that starts with * must be quoted: "{word or "*..."}"'


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
