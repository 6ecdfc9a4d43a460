"""``init`` for events of users with items: who took or rated what, and a model that suits them."""

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

MANY_ITEMS = 5_000
"""Catalogues above this are trained on samples of their items, which is much faster."""


@dataclass(frozen=True)
class Found:
    """What reading all events showed."""

    num_files: int
    num_events: int
    num_users: int
    num_items: int
    duplicates: int
    dropped: dict[str, int]

    def lines(self) -> list[str]:
        """What a person is told, a line each."""
        files = "1 file" if self.num_files == 1 else f"{self.num_files:,} files"
        told = [
            f"{files}: {self.num_events:,} events of {self.num_users:,} users with "
            f"{self.num_items:,} items"
        ]
        if self.duplicates:
            told.append(f"{self.duplicates:,} events repeat an item of their user: kept once")
        if self.dropped:
            causes = ", ".join(f"{n:,} {cause}" for cause, n in self.dropped.items())
            told.append(f"of no use: {causes}")
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
    return Found(
        len(sources),
        planned["events"],
        planned["users"],
        planned["items"],
        planned["duplicates"],
        dict(planned["dropped"]),
    )


def section(place: str, kind: Kind, found: Found, quote: Callable[[str], str]) -> str:
    """The model's keys, with comments, from `domain:` on; `quote` names the source."""
    rates = kind.task == "rating"
    return f"""\
    domain: {kind.domain}
    task: {kind.task}{"                 # or next-item: what a user takes next" if rates else ""}
    data:
      source: {quote(place)}
{written(kind) if _columns(kind) else ""}{_split(rates)}{_network(rates, found)}\
      workers: {min(2, os.cpu_count() or 1)}
"""


def _split(rates: bool) -> str:
    if rates:
        return "      split: {last: 5}           # newest of each user: 5 test, 5 validate\n"
    return "      split: {last: 1}           # newest of each user: 1 tests, 1 validates\n"


def _network(rates: bool, found: Found) -> str:
    if rates:
        return """\
    network: {type: matrix-factorisation}
    train:
      epochs: 8                  # passes over the data
      global_batch: 2048         # ratings in one optimizer step
      micro_batch: 512
      optimizer: {lr: 0.01}
"""
    samples = ", samples: 500" if found.num_items > MANY_ITEMS else ""
    return f"""\
    network: {{type: sasrec, dropout: 0.3{samples}}}   # or two-tower, which reads titles
    train:
      epochs: 16                 # passes over the data
      global_batch: 16           # histories in one optimizer step
      optimizer: {{lr: 0.001}}
"""


def _columns(kind: Kind) -> dict[str, str | int]:
    """Of one table; a folder of several is in a layout that the domain knows."""
    return kind.roles.columns if kind.roles and not kind.is_layout else {}
