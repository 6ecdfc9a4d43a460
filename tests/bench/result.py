"""What a row of the table found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """One measurement against its bound, both as people read them."""

    figure: str
    bound: str
    holds: bool
    details: dict[str, Any] = field(default_factory=dict)
    """Everything else that was measured, as JSON."""
    how: str = ""
    """What is particular in how this sample was measured, said after the row's own words."""
