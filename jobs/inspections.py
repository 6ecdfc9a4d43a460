"""Inspections of source files, remembered: a file that has not changed is not read again."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs.domains import Preparation
from jobs.domains.files import Source
from jobs.ordered import in_order
from jobs.rows import cache_folder

FORMAT = 1
SETTLED_S = 2.0
"""A file touched less than this before it was read may change again within its timestamp."""


def inspect_all(
    preparation: Preparation, sources: Sequence[Source], report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Inspections of the sources, in order; new or changed files are read, all others known."""
    settings = preparation.settings()
    places = [_place(source, settings) for source in sources]
    found = [_read(place) for place in places]
    missing = [i for i, inspection in enumerate(found) if inspection is None]
    if missing:
        size = sum(sources[i].size for i in missing)
        many = f"{len(missing):,} files" if len(missing) > 1 else sources[missing[0]].path
        report(f"reading {many}" + (f" ({size / 1e6:,.1f} MB)" if size else ""))
    started_ns = time.time_ns()
    new = in_order(partial(_inspect, preparation, [sources[i] for i in missing]), len(missing))
    for i, inspection in zip(missing, new, strict=True):
        found[i] = inspection
        if started_ns - sources[i].modified_ns > SETTLED_S * 1e9:
            _write(places[i], inspection)
    return [inspection for inspection in found if inspection is not None]


def _inspect(preparation: Preparation, sources: list[Source], i: int) -> Iterator[dict[str, Any]]:
    yield preparation.inspect(sources[i])


def _place(source: Source, settings: dict[str, Any]) -> Path:
    """Where an inspection is kept: a name for the file as it is now and what is looked for."""
    known = [
        FORMAT,
        source.path,
        source.part,
        source.size,
        source.modified_ns,
        source.identity,
        settings,
    ]
    known += [sys.version, sys.prefix] if source.is_builtin else []
    name = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / "inspections" / f"{name}.json"


def _read(place: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(place.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _write(place: Path, inspection: dict[str, Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(inspection), "utf-8")
    os.replace(draft, place)
