"""Any user's files as rows for a model that has its catalogue already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.domains.files import DataError, Source, find_sources
from jobs.domains.recommendation.catalogue import Catalogue
from jobs.domains.recommendation.events import Event, columns_of, events_of
from jobs.domains.recommendation.layouts import SUFFIXES, wanted
from jobs.domains.records import Bad
from jobs.domains.records.dropping import Dropped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec.data import DataSpec


def histories(
    paths: Sequence[str], data: DataSpec, catalogue: Catalogue, rows_per_batch: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """A row for each event that has a history: the stored one, then the files' own before it.

    Items that the catalogue lacks are numbered behind its last, so that they count as missed.
    Events that the stored history has already are left out.
    """
    own: dict[str, list[Event]] = {}
    for event in read_events(paths, data, needs_rating=False):
        own.setdefault(event.user, []).append(event)
    outside = len(catalogue.items) + 1
    rows: list[tuple[int, list[int], int]] = []
    for name, events in own.items():
        user = catalogue.users.numbers.get(name, 0)
        taken = catalogue.taken(user).tolist() if user else []
        known = set(taken)
        for event in sorted(events, key=lambda e: e.time):
            item = catalogue.items.numbers.get(event.item, outside)
            if item in known and item != outside:
                continue
            if taken:
                rows.append((user, list(taken), item))
            taken.append(item)
            known.add(item)
            if len(rows) == rows_per_batch:
                yield _batch(rows)
                rows = []
    if rows:
        yield _batch(rows)


def ratings(
    paths: Sequence[str], data: DataSpec, catalogue: Catalogue, recent: int, rows_per_batch: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Rows of `rating_preparation`; users and items that training has not seen are 0.

    What is known of a user is the stored history alone, its newest `recent` ratings.
    """
    held: list[tuple[int, int, float]] = []
    for event in read_events(paths, data, needs_rating=True):
        user = catalogue.users.numbers.get(event.user, 0)
        item = catalogue.items.numbers.get(event.item, 0)
        user = user if user <= catalogue.users.num_trained else 0
        held.append((user, item if item <= catalogue.items.num_trained else 0, event.rating))
        if len(held) == rows_per_batch:
            yield _columns(held, catalogue, recent)
            held = []
    if held:
        yield _columns(held, catalogue, recent)


def read_events(paths: Sequence[str], data: DataSpec, needs_rating: bool) -> Iterator[Event]:
    """The events of files in order; DataError where more than `data.max_bad` are of no use."""
    dropped, num_good = Dropped(), 0
    for source in _sources(paths):
        for found in events_of(source, columns_of(data), data.encoding, needs_rating):
            if isinstance(found, Bad):
                dropped.add(found)
            elif isinstance(found, Event):
                num_good += 1
                yield found
    if not num_good:
        raise DataError(f"{', '.join(paths)}: holds no event that can be used{dropped.told()}")
    dropped.check(num_good, data.max_bad)


def _sources(paths: Sequence[str]) -> list[Source]:
    return wanted(find_sources(paths, SUFFIXES))


def _batch(rows: list[tuple[int, list[int], int]]) -> dict[str, NDArray[Any]]:
    longest = max(len(items) for _, items, _ in rows)
    items = np.zeros((len(rows), longest), np.int32)
    for (_, taken, _), into in zip(rows, items, strict=True):
        into[: len(taken)] = taken
    return {
        "user": np.asarray([user for user, _, _ in rows], np.int32),
        "items": items,
        "items_length": np.asarray([len(taken) for _, taken, _ in rows], np.int64),
        "target": np.asarray([target for _, _, target in rows], np.int32),
    }


def recent_of(catalogue: Catalogue, users: Sequence[int], many: int) -> dict[str, NDArray[Any]]:
    """Columns `recent`, `recent_ratings` and their lengths of users by number; nothing of 0."""
    items = np.zeros((len(users), many), np.int32)
    values = np.zeros((len(users), many), np.float32)
    lengths = np.zeros(len(users), np.int64)
    for place, user in enumerate(users):
        taken = catalogue.taken(user)[::-1][:many] if user else np.zeros(0, np.int32)
        lengths[place] = len(taken)
        items[place, : len(taken)] = np.where(taken <= catalogue.items.num_trained, taken, 0)
        if user:
            values[place, : len(taken)] = catalogue.rated(user)[::-1][:many]
    names = ("recent", "recent_ratings")
    return {names[0]: items, names[1]: values, **{f"{name}_length": lengths for name in names}}


def _columns(
    held: list[tuple[int, int, float]], catalogue: Catalogue, recent: int
) -> dict[str, NDArray[Any]]:
    users, items, values = zip(*held, strict=True)
    return {
        **recent_of(catalogue, users, recent),
        "user": np.asarray(users, np.int32),
        "item": np.asarray(items, np.int32),
        "rating": np.asarray(values, np.float32),
    }
