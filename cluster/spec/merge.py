"""Environments and ``--set`` laid over the file."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cluster.spec.problems import Problem, SpecError, did_you_mean
from cluster.spec.tree import Tree, read_yaml

SET = "--set"


def with_prefix(tree: Tree, prefix: str) -> Tree:
    """The tree with every part marked as coming from an environment."""
    value = tree.value
    if isinstance(value, dict):
        value = {key: with_prefix(part, prefix) for key, part in value.items()}
    elif isinstance(value, list):
        value = [with_prefix(part, prefix) for part in value]
    return replace(tree, value=value, prefix=prefix)


def overlay(below: Tree, above: Tree) -> Tree:
    """Maps merge, lists of named maps merge by ``name``, null takes away, else replaced."""
    if isinstance(below.value, dict) and isinstance(above.value, dict):
        return replace(below, value=_overlay_maps(below.value, above.value))
    if _is_named(below) and _is_named(above):
        return replace(below, value=_overlay_named(below.value, above.value))
    return above


def _overlay_maps(below: dict[str, Tree], above: dict[str, Tree]) -> dict[str, Tree]:
    merged = dict(below)
    for key, part in above.items():
        if part.value is None and key in below:
            del merged[key]
        else:
            merged[key] = overlay(below[key], part) if key in below else part
    return merged


def _overlay_named(below: list[Tree], above: list[Tree]) -> list[Tree]:
    merged = {_name(item): item for item in below}
    for item in above:
        name = _name(item)
        merged[name] = overlay(merged[name], item) if name in merged else item
    return list(merged.values())


def _name(item: Tree) -> Any:
    return item.value["name"].value


def _is_named(tree: Tree) -> bool:
    if not isinstance(tree.value, list) or not tree.value:
        return False
    maps = all(isinstance(item.value, dict) and "name" in item.value for item in tree.value)
    if not maps:
        return False
    names = [_name(item) for item in tree.value]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def apply_environment(tree: Tree, name: str) -> Tree:
    """The file without ``environments``, with that one of them laid over it."""
    rest = without_environments(tree)
    environments = tree.value.get("environments")
    known = environments.value if environments and isinstance(environments.value, dict) else {}
    if name not in known:
        hint = did_you_mean(name, known) or "; the file has no environments"
        line = environments.line if environments else None
        problem = Problem(f'no environment "{name}"{hint}', tree.file, line, "environments")
        raise SpecError([problem])
    above = with_prefix(known[name], f"environments.{name}.")
    return overlay(rest, above) if isinstance(above.value, dict) else rest


def without_environments(tree: Tree) -> Tree:
    """The file as it is where no environment is named."""
    return replace(tree, value={k: v for k, v in tree.value.items() if k != "environments"})


def check_environments(tree: Tree) -> list[Problem]:
    """What is wrong with the shape of ``environments``."""
    part = tree.value.get("environments")
    if part is None or part.value is None:
        return []
    if not isinstance(part.value, dict):
        return [Problem("must be a map of names to maps", tree.file, part.line, "environments")]
    return [
        Problem("must be a map", tree.file, each.line, f"environments.{name}")
        for name, each in part.value.items()
        if not isinstance(each.value, dict) and each.value is not None
    ]


def apply_overrides(tree: Tree, overrides: Sequence[str]) -> Tree:
    """The tree with every ``a.b.c=value`` set. Raises SpecError with all that are wrong."""
    problems: list[Problem] = []
    for override in overrides:
        path, found, text = override.partition("=")
        keys = _split(path.strip())
        if not found or not keys:
            problems.append(Problem(f'"{override}" is not KEY=VALUE, like name=acme', SET))
            continue
        try:
            value = read_yaml(text, SET)
            new = _marked(value) if value else Tree(None, SET, None)
            tree = _set(tree, keys, new)
        except SpecError as error:
            problems += [p._replace(path=path.strip(), line=None) for p in error.problems]
    if problems:
        raise SpecError(problems)
    return tree


def _marked(tree: Tree) -> Tree:
    value = tree.value
    if isinstance(value, dict):
        value = {key: _marked(part) for key, part in value.items()}
    elif isinstance(value, list):
        value = [_marked(part) for part in value]
    return Tree(value, SET, None)


def _split(path: str) -> list[str]:
    """``a.b[0]."c.d"`` as its keys; below ``tune.space`` the rest is one key."""
    keys = [word.strip('"') for word in re.findall(r'"[^"]*"|[^.\[\]]+', path) if word.strip('"')]
    if keys[2:4] == ["tune", "space"] and len(keys) > 4 and '"' not in path:
        return [*keys[:4], ".".join(keys[4:])]
    return keys


def _set(tree: Tree, keys: list[str], new: Tree) -> Tree:
    if not keys:
        return new
    key, rest = keys[0], keys[1:]
    if isinstance(tree.value, list):
        return _set_item(tree, key, rest, new)
    if tree.value is not None and not isinstance(tree.value, dict):
        raise SpecError([Problem(f'"{key}" cannot be set: what stands there is no map', SET)])
    parts = dict(tree.value or {})
    if not rest and new.value is None:
        if key in parts:
            del parts[key]
            return replace(tree, value=parts)
        parts[key] = new
        return replace(tree, value=parts)
    parts[key] = _set(parts.get(key, Tree(None, SET, None)), rest, new)
    return replace(tree, value=parts)


def _set_item(tree: Tree, key: str, rest: list[str], new: Tree) -> Tree:
    named = [
        at
        for at, item in enumerate(tree.value)
        if isinstance(item.value, dict) and "name" in item.value and _name(item) == key
    ]
    at = named[0] if named else int(key) if key.isdecimal() else -1
    if not 0 <= at < len(tree.value):
        raise SpecError([Problem(f'the list has no item "{key}"', SET)])
    items = list(tree.value)
    items[at] = _set(items[at], rest, new)
    return replace(tree, value=items)
