"""One file's events, checked: who took which item, when, and what they thought of it."""

from __future__ import annotations

import math
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.domains.files import Source
from jobs.domains.recommendation import builtin
from jobs.domains.recommendation.layouts import Layout, layout_of, read_rows
from jobs.domains.records import Bad, Row
from jobs.domains.records.catalog import parse_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec.data import DataSpec

NO_RATING = math.nan
FINER = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""Times above the first are nano-, micro- or milliseconds since 1970: seconds reach it in 5138."""


@dataclass(frozen=True)
class Event:
    """A user and an item; the ids are the file's own, as text."""

    user: str
    item: str
    rating: float
    """NaN where the file has none."""
    time: float
    """Seconds since 1970, or any number that grows."""
    place: str
    title: str = ""
    genres: str = ""
    is_finer: bool = False
    """The time was in milliseconds or finer."""


@dataclass(frozen=True)
class Item:
    """An item of a catalogue."""

    item: str
    title: str
    genres: str
    place: str


def events_of(
    source: Source, columns: Mapping[str, str | int], encoding: str, needs_rating: bool
) -> Iterator[Event | Item | Bad]:
    """A file's events, or the items that it tells of, in order."""
    if source.is_builtin:
        builtin.check(source.path)
        layout = Layout("builtin", {"user": 0, "item": 1, "time": 2})
        rows: Iterator[Row | Bad] = builtin.read()
    else:
        layout = layout_of(source, columns, encoding)
        rows = read_rows(source, layout, encoding)
    if layout.has_events and needs_rating and "rating" not in layout.columns:
        yield Bad(f"no column of ratings (name it in data.columns.rating; {source.path})", "")
        return
    for row in rows:
        yield row if isinstance(row, Bad) else _parse(row, layout.has_events, needs_rating)


def columns_of(data: DataSpec) -> dict[str, str | int]:
    """Roles to columns as the spec gives them; `data.split.time` names the column of times."""
    time = {} if data.split.time is None else {"time": data.split.time}
    return {**time, **data.columns}


def _parse(row: Row, has_events: bool, needs_rating: bool) -> Event | Item | Bad:
    cells = {role: str(cell).strip() for role, cell in row.cells.items()}
    title, genres = cells.get("title", ""), cells.get("genres", "")
    if not cells["item"]:
        return Bad("no item", row.place)
    if not has_events:
        return Item(cells["item"], title, genres, row.place)
    if not cells["user"]:
        return Bad("no user", row.place)
    rating, time, is_finer = NO_RATING, 0.0, False
    if needs_rating:
        try:
            rating = float(cells["rating"])
        except ValueError:
            return Bad(f"no number as rating ({cells['rating'][:20]!r})", row.place)
        if not math.isfinite(rating):
            return Bad(f"no number as rating ({cells['rating'][:20]!r})", row.place)
    if "time" in cells:
        try:
            time, is_finer = _seconds(parse_time(cells["time"]))
        except (ValueError, OverflowError):
            cause = f"no time ({cells['time'][:40]!r} is neither a number nor an ISO date)"
            return Bad(cause, row.place)
    return Event(cells["user"], cells["item"], rating, time, row.place, title, genres, is_finer)


def _seconds(time: float) -> tuple[float, bool]:
    for least, parts in FINER:
        if abs(time) >= least:
            return time / parts, True
    return time, False


@dataclass
class Notes:
    """A file's events as numbers, and what must be known of their items."""

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    about: dict[str, list[str]] = field(default_factory=dict)
    """Item to its title and genres."""
    pairs: list[tuple[int, int]] = field(default_factory=list)
    values: list[tuple[float, float]] = field(default_factory=list)
    """Rating and time."""
    marks: Counter[str] = field(default_factory=Counter)

    def add(self, found: Event | Item) -> None:
        if found.title or found.genres:
            self.about.setdefault(found.item, [found.title, found.genres])
        if isinstance(found, Item):
            self.items.setdefault(found.item, len(self.items))
            return
        user = self.users.setdefault(found.user, len(self.users))
        self.pairs.append((user, self.items.setdefault(found.item, len(self.items))))
        self.values.append((found.rating, found.time))
        self.marks["milliseconds"] += found.is_finer

    def dump(self) -> dict[str, Any]:
        """JSON for `arrays_of`: about 10 bytes an event."""
        return {
            "users": list(self.users),
            "items": list(self.items),
            "about": self.about,
            "pairs": _pack(np.asarray(self.pairs, np.int32)),
            "values": _pack(np.asarray(self.values, np.float64)),
            "marks": dict(self.marks),
        }


def arrays_of(found: Mapping[str, Any]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """(user and item [events, 2], rating and time [events, 2]) of what `dump` gave."""
    pairs = np.frombuffer(zlib.decompress(b64decode(found["pairs"])), np.int32)
    values = np.frombuffer(zlib.decompress(b64decode(found["values"])), np.float64)
    return pairs.reshape(-1, 2), values.reshape(-1, 2)


def _pack(values: NDArray[Any]) -> str:
    return b64encode(zlib.compress(values.tobytes(), 1)).decode()
