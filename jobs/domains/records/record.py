"""What readers of records yield."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """One record of a user's file."""

    content: str | bytes
    """The text, the encoded picture, ..."""
    label: str | None = None
    """As in the file; "3" for a number."""
    group: str | None = None
    """The value of the column `data.split.by`."""
    time: float | str | None = None
    """The value of the column `data.split.time`: a number or an ISO date."""
    place: str = ""
    """"FILE:LINE", "FILE" or "ARCHIVE/ENTRY", for messages."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Other roles, such as {"speaker": "x"}."""


@dataclass(frozen=True)
class Bad:
    """A record that cannot be used, and why; causes are counted up to their first " (" or ": "."""

    cause: str
    place: str
    after: int = 0
    """The byte that the line's number in `place` counts from."""

    @property
    def kind(self) -> str:
        """The cause without what differs from record to record."""
        return self.cause.partition(" (")[0].partition(": ")[0]
