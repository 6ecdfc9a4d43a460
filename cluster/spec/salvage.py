"""What can still be checked of a file with errors, so that all are told at once."""

from collections.abc import Iterable, Sequence
from typing import Any

Path = tuple[str | int, ...]
_STAND_IN = {"domain": "text", "task": "generation", "data": "builtin:python-docs"}


def salvage(plain: dict[str, Any], found: Iterable[tuple[str, Path]]) -> tuple[Any, set[Path]]:
    """The values with broken parts left out, and the paths of those that lost their meaning.

    Unknown keys just go. A section of a model with an error gives way to its default, a model
    whose kind is not known to a stand-in. Findings below the returned paths mean nothing.
    """
    lost: set[Path] = set()
    for message, path in found:
        if message.startswith("unknown key"):
            plain = _without(plain, path)
            continue
        keys = path[: 3 if path[0] == "models" else 1]
        lost.add(keys)
        if len(keys) == 3 and keys[2] in ("domain", "task", "data"):
            lost.add(keys[:2])
            plain = _without(plain, keys[:2], _STAND_IN)
        else:
            plain = _without(plain, keys)
    return plain, lost


def _without(plain: Any, path: Sequence[str | int], instead: Any = None) -> Any:
    if isinstance(plain, list) and isinstance(path[0], int) and path[0] < len(plain):
        parts = list(plain)
        parts[path[0]] = _without(parts[path[0]], path[1:], instead) if path[1:] else instead
        return parts
    if not isinstance(plain, dict) or path[0] not in plain:
        return plain
    if path[1:]:
        return plain | {path[0]: _without(plain[path[0]], path[1:], instead)}
    rest = {key: value for key, value in plain.items() if key != path[0]}
    return rest if instead is None else rest | {path[0]: instead}


def still_means(path: Path, lost: set[Path]) -> bool:
    """Whether a finding at a path says something although other parts were lost."""
    searches = path[2:3] == ("tune",) and any(other[:2] == path[:2] for other in lost)
    return not searches and not any(path[: len(other)] == other for other in lost)
