"""What an evaluation shows beyond metrics: tables, matrices, records and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text or numbers under column names, such as the figures of each class."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]


@dataclass(frozen=True)
class Matrix:
    """Counts by label and by prediction, [labels, labels]."""

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Shown:
    """One record for a person to look at: its text, a picture or a sound, and a note."""

    text: str = ""
    png: bytes | None = None
    wav: bytes | None = None
    note: str = ""
    """What was wanted and what came, such as "sports, predicted business 0.93"."""


@dataclass(frozen=True)
class Examples:
    """Records side by side."""

    title: str
    items: Sequence[Shown]


Detail = Table | Matrix | Examples
