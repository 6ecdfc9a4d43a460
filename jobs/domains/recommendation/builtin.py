"""Which modules the Python files of this installation import, in order: `builtin:imports`.

A file is a user, a module an item. Installed packages are left out, so that the data depend on
the Python alone.
"""

import ast
import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from jobs.domains.files import DataError
from jobs.domains.records import Row

NAME = "builtin:imports"
LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__", "lib2to3"})


def check(path: str) -> None:
    """DataError where there are no such built-in events."""
    if path != NAME:
        raise DataError(f"{path}: holds no events; for recommendation there is {NAME}")


def digest() -> str:
    """SHA-256 of all files that are read."""
    total = hashlib.sha256(NAME.encode())
    for file in _files():
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def read() -> Iterator[Row]:
    """Cells user, item, time (the place among the file's imports) and title."""
    root = Path(sysconfig.get_path("stdlib"))
    for file in _files():
        name = file.relative_to(root).as_posix()
        for place, module in enumerate(_imports(file, root)):
            title = module.replace(".", " ").replace("_", " ")
            cells = {"user": name, "item": module, "time": str(place), "title": title}
            yield Row({**cells, "genres": module.partition(".")[0]}, f"{file}")


@cache
def _files() -> tuple[Path, ...]:
    root = sysconfig.get_path("stdlib")
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return tuple(sorted(found))


def _imports(file: Path, root: Path) -> list[str]:
    """Modules in the order of their first import; none of a file that is not Python 3."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    package = file.relative_to(root).parent.parts
    found: dict[int, list[str]] = {}
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            found.setdefault(node.lineno, []).extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            found.setdefault(node.lineno, []).extend([module] if module else [])
    return list(dict.fromkeys(name for line in sorted(found) for name in found[line]))


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements, however deep: imports are statements, and expressions are most of a file."""
    for node in body:
        yield node
        for name in ("body", "handlers", "orelse", "finalbody", "cases"):
            inner = getattr(node, name, None)
            if isinstance(inner, list):
                yield from _statements(inner)
