"""Text that every Python installation brings: documentation, source code, docstrings."""

import ast
import hashlib
import os
import sysconfig
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from pydoc_data import topics

from jobs.domains.files import DataError
from jobs.domains.records import Record
from jobs.domains.text.records import Document, Reading

NAMES = ("python-docs", "python-source", "docstrings")
LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"})
SPAN_BYTES = 1 << 20


def check(path: str) -> None:
    """DataError where there is no such built-in text."""
    if _name(path) not in NAMES:
        raise DataError(f"{path}: is not built in; there are builtin:{', builtin:'.join(NAMES)}")


def spans(path: str) -> list[tuple[int, int]]:
    """Ranges of topics or files of about 1 MiB together."""
    sizes = _sizes(_name(path))
    if _name(path) == "docstrings":
        return [(0, len(sizes))]
    cuts, held = [0], 0
    for i, size in enumerate(sizes):
        held += size
        if held >= SPAN_BYTES or i == len(sizes) - 1:
            cuts.append(i + 1)
            held = 0
    return list(pairwise(cuts))


def digest(path: str) -> str:
    """SHA-256 of all that the built-in text is made of."""
    total = hashlib.sha256(path.encode())
    if _name(path) == "python-docs":
        for topic in sorted(topics.topics):
            total.update(f"{topic}\0{topics.topics[topic]}\0".encode())
    else:
        for file in _files():
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def read(reading: Reading, start: int, stop: int) -> Iterator[Document]:
    name = _name(reading.source.path)
    if name == "python-docs":
        for topic in sorted(topics.topics)[start:stop]:
            yield Document(topics.topics[topic], place=f"{reading.source.path}:{topic}")
        return
    for file in _files()[start:stop]:
        if name == "python-source":
            yield Document(_text(file), place=f"{file}:1")
        else:
            yield from _docstrings(file)


def _name(path: str) -> str:
    return path.partition(":")[2]


def _sizes(name: str) -> list[int]:
    if name == "python-docs":
        return [len(topics.topics[topic]) for topic in sorted(topics.topics)]
    return [file.stat().st_size for file in _files()]


@cache
def _files() -> tuple[Path, ...]:
    """The standard library's modules that are not empty, sorted by name."""
    found = []
    root = sysconfig.get_path("stdlib")
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return tuple(file for file in sorted(found) if _text(file).strip())


def _text(file: Path) -> str:
    """UTF-8 as PEP 3120 wants it; the few files that declare another encoding are left out."""
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def _docstrings(file: Path) -> tuple[Document, ...]:
    """Kept, as parsing all of them takes seconds and they are small."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    try:
        nodes = [node for node in ast.walk(ast.parse(_text(file))) if isinstance(node, kinds)]
    except SyntaxError:
        return ()
    found = ((ast.get_docstring(node), getattr(node, "lineno", 1)) for node in nodes)
    return tuple(
        Document(text, place=f"{file}:{line}") for text, line in found if text and text.strip()
    )


LABELLED = 60
"""A package takes part in `labelled` with so many docstrings of its own."""


@cache
def labelled(path: str) -> tuple[Record, ...]:
    """Docstrings of the standard library with the top-level package that each is from.

    Each text once; packages with fewer than LABELLED are left out.
    """
    if _name(path) != "docstrings":
        raise DataError(f"{path}: has no labels; there is builtin:docstrings")
    root = Path(sysconfig.get_path("stdlib"))
    seen: dict[str, Record] = {}
    for file in _files():
        package = file.relative_to(root).parts[0].removesuffix(".py")
        for document in _docstrings(file):
            seen.setdefault(document.text, Record(document.text, package, place=document.place))
    counts = Counter(record.label for record in seen.values())
    return tuple(record for record in seen.values() if counts[record.label] >= LABELLED)
