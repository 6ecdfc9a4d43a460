"""The events of all files, each user's in order, and which side of the split each is on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.domains.files import DataError
from jobs.domains.recommendation.events import arrays_of
from jobs.domains.records.catalog import by_value
from jobs.domains.records.dropping import Dropped
from jobs.domains.records.splitting import by_time, keys_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec.data import Split

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = ("train", "validation", "test")
PARTS = ("", "validation", "test")
FEW_RATINGS = 0.001
"""Ratings of values that fewer than this share have, beyond all others, are outside the scale."""
SCALE_VALUES = 101
"""A scale has so many different values at most; more, and any number is a rating."""


@dataclass
class History:
    """Events sorted by user, part (given files last) and time; arrays of one size [events]."""

    users: list[str]
    items: list[str]
    user: NDArray[np.int32]
    """Places in `users`, ascending."""
    item: NDArray[np.int32]
    """Places in `items`."""
    rating: NDArray[np.float64]
    time: NDArray[np.float64]
    part: NDArray[np.int8]
    """Place in PARTS of the file that an event is from."""
    duplicates: int
    """Events left out because the user has the item already: the last rating, the first visit."""
    contradictions: int
    """Of these, with another rating."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each user's events begin, and the number of all, [users + 1]."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1))

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Each event's place among its user's, from 0, [events]."""
        places: NDArray[np.int64] = np.arange(len(self)) - self.starts[self.user]
        return places


def join(
    parts: Sequence[str], inspections: Sequence[Mapping[str, Any]], keeps_last: bool
) -> History:
    """All files' events in one; of several with one item a user keeps the first or the last."""
    users, user_tables = _numbered([found["users"] for found in inspections])
    items, item_tables = _numbered([found["items"] for found in inspections])
    arrays = [arrays_of(found) for found in inspections]
    sizes = [len(pairs) for pairs, _ in arrays]
    user = np.concatenate([t[p[:, 0]] for t, (p, _) in zip(user_tables, arrays, strict=True)])
    item = np.concatenate([t[p[:, 1]] for t, (p, _) in zip(item_tables, arrays, strict=True)])
    rating, time = np.concatenate([values for _, values in arrays]).T
    part = np.repeat(np.asarray([PARTS.index(name) for name in parts], np.int8), sizes)
    order = np.lexsort((time, part, user))
    columns: list[NDArray[Any]] = [a[order] for a in (user, item, rating, time, part)]
    kept, contradictions = _once(columns[0], columns[1], columns[2], keeps_last)
    duplicates = int((~kept).sum())
    user, item, rating, time, part = (a[kept] for a in columns)
    return History(users, items, user, item, rating, time, part, duplicates, contradictions)


def on_scale(history: History, dropped: Dropped) -> History:
    """Without ratings outside the scale that all but a few are on; these are counted."""
    values, counts = np.unique(history.rating, return_counts=True)
    usual = values[counts >= max(1.0, FEW_RATINGS * len(history))]
    if not 1 < len(usual) <= SCALE_VALUES or len(history) < 1 / FEW_RATINGS:
        return history
    outside = (history.rating < usual[0]) | (history.rating > usual[-1])
    if not outside.any():
        return history
    first = int(np.flatnonzero(outside)[0])
    user, item = history.users[history.user[first]], history.items[history.item[first]]
    kind = f"rating outside the scale of {usual[0]:g} to {usual[-1]:g}"
    example = f"user {user}, item {item}: {history.rating[first]:g} is a {kind}"
    dropped.include({kind: int(outside.sum())}, [example])
    names = ("user", "item", "rating", "time", "part")
    return replace(history, **{name: getattr(history, name)[~outside] for name in names})


def sides_of(
    history: History, split: Split, seed: int, last: int | None, by_user: bool
) -> NDArray[np.int8]:
    """TRAIN, VALIDATION or TEST of each event.

    Files given for a part are on its side. Else by time (the newest of all), by user, or of each
    user the newest `last`, or the newest share where `last` is None; a user keeps one at least.
    """
    shares = {
        side: float(share)
        for side, share in ((VALIDATION, split.validation), (TEST, split.test))
        if isinstance(share, float) and share
    }
    sides = history.part.copy()
    own = history.part == 0
    if not shares or not own.any():
        return sides
    if split.time is not None:
        sides[own] = by_time(history.time[own], shares)
    elif by_user:
        sides[own] = _users_apart(history, seed, shares)[history.user[own]]
    else:
        sides[own] = _newest(history, own, shares, last)
    return sides


def check(history: History, sides: NDArray[np.int8], split: Split) -> None:
    """DataError where a side is empty."""
    wanted = (1.0, split.validation, split.test)
    for side, share in enumerate(wanted):
        if share and not (sides == side).any():
            remedy = "give more events" + (f", or set data.split.{SPLITS[side]}" if side else "")
            raise DataError(
                f"the {SPLITS[side]} part holds none of {len(history):,} events of "
                f"{len(history.users):,} users: {remedy}"
            )


def _numbered(lists: Sequence[Sequence[str]]) -> tuple[list[str], list[NDArray[np.int32]]]:
    """All names sorted (numbers by value), and each list's places among them."""
    names = sorted({name for names in lists for name in names}, key=by_value)
    places = {name: place for place, name in enumerate(names)}
    return names, [np.asarray([places[n] for n in own], np.int32) for own in lists]


def _once(
    user: NDArray[Any], item: NDArray[Any], rating: NDArray[Any], keeps_last: bool
) -> tuple[NDArray[np.bool_], int]:
    """Which events stay so that a user has each item once, and how many differ in their rating."""
    pairs = user.astype(np.int64) * (int(item.max(initial=0)) + 1) + item
    ordered = pairs[::-1] if keeps_last else pairs
    _, first, members = np.unique(ordered, return_index=True, return_inverse=True)
    kept = np.zeros(len(pairs), np.bool_)
    kept[first] = True
    ratings = rating[::-1] if keeps_last else rating
    differs = ~(np.isnan(ratings) | np.isclose(ratings, ratings[first][members]))
    return (kept[::-1] if keeps_last else kept), int(differs.sum())


def _newest(
    history: History, own: NDArray[np.bool_], shares: Mapping[int, float], last: int | None
) -> NDArray[np.int8]:
    """Sides of the events of `own`: the newest of each user for test, those before validation."""
    users = history.user[own]
    counts = np.bincount(users, minlength=len(history.users))
    ranks = np.arange(len(users)) - (np.cumsum(counts) - counts)[users]
    left = counts.copy()
    sides = np.zeros(len(users), np.int8)
    for side in (TEST, VALIDATION):
        if share := shares.get(side, 0.0):
            many = np.full_like(counts, last) if last else np.rint(share * counts).astype(int)
            taken = np.minimum(many, np.maximum(left - 1, 0))
            sides[(ranks >= (left - taken)[users]) & (ranks < left[users])] = side
            left -= taken
    return sides


def _users_apart(history: History, seed: int, shares: Mapping[int, float]) -> NDArray[np.int8]:
    """Sides of the users, in an order that the seed decides, [users]."""
    digests = [hashlib.blake2b(n.encode(), digest_size=8).digest() for n in history.users]
    order = np.argsort(keys_of(np.frombuffer(b"".join(digests), np.uint64), seed), kind="stable")
    sides, begin = np.zeros(len(order), np.int8), 0
    for side, share in shares.items():
        many = min(max(1, round(share * len(order))), len(order) - 1 - begin)
        sides[order[begin : begin + many]] = side
        begin += many
    return sides
