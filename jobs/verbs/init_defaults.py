"""``init`` for tasks of which it knows no more than their defaults."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.spec import parse_model
from cluster.spec.models import AVAILABLE
from cluster.spec.references import is_uri
from jobs.domains import open_preparation
from jobs.inspections import inspect_all
from jobs.verbs.init_classes import written
from jobs.verbs.init_kinds import Kind


@dataclass(frozen=True)
class Found:
    """What reading the data showed."""

    num_files: int
    num_bytes: int
    dropped: dict[str, int]

    def lines(self) -> list[str]:
        files = "1 file" if self.num_files == 1 else f"{self.num_files:,} files"
        told = [files + (f", {self.num_bytes / 1e6:,.1f} MB" if self.num_bytes else "")]
        if self.dropped:
            told.append(
                "broken: " + ", ".join(f"{n:,} {cause}" for cause, n in self.dropped.items())
            )
        return told


def look(place: str, kind: Kind) -> Found:
    """Reads all of a source; DataError where it cannot be trained on."""
    source = place if is_uri(place) else str(Path(place).absolute())
    data: dict[str, Any] = {"source": source, "columns": _columns(kind)}
    network = {"type": AVAILABLE[kind.domain, kind.task][0]}
    model = {"domain": kind.domain, "task": kind.task, "data": data, "network": network}
    preparation = open_preparation(parse_model(model))
    sources = preparation.sources()
    planned = preparation.plan(inspect_all(preparation, sources, lambda text: None))
    num_bytes = sum(one.size for one in sources)
    return Found(len(sources), num_bytes, dict(planned.get("dropped", {})))


def section(place: str, kind: Kind, found: Found, quote: Callable[[str], str]) -> str:
    """The model's keys, with comments, from `domain:` on; `quote` names the source."""
    networks = AVAILABLE[kind.domain, kind.task]
    others = f"   # or {', '.join(networks[1:])}" if networks[1:] else ""
    return f"""\
    domain: {kind.domain}
    task: {kind.task}
    data:
      source: {quote(place)}
{written(kind) if _columns(kind) else ""}      split: {{validation: 10%, test: 10%}}
    network: {{type: {networks[0]}}}{others}
    train:
      epochs: 3                  # passes over the data
      global_batch: 32           # records in one optimizer step
      workers: {min(2, os.cpu_count() or 1)}
"""


def _columns(kind: Kind) -> dict[str, str | int]:
    """Of one table; a folder of several is in a layout that its domain knows."""
    return kind.roles.columns if kind.roles and not kind.is_layout else {}
