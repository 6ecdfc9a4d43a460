"""An answer as it goes over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Content:
    """JSON, or bytes of a media type."""

    body: Any
    media_type: str = "application/json"
