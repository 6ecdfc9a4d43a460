"""All records of a data set to the side each is on, with what is wrong with the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jobs.domains.files import DataError
from jobs.domains.records.catalog import BAD, OWN, TEST, VALIDATION, Catalog
from jobs.domains.records.dropping import Dropped
from jobs.domains.records.record import Bad
from jobs.domains.records.splitting import Shares, by_group, by_share, by_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec.data import Split

SPLITS = ("train", "validation", "test")
LEFT_OUT = -1
MANY_CLASSES = 10
"""More labels than this may turn out to be no labels but numbers or names of records."""
NAMED = 5
"""So many classes are named in a message."""
Locate = Callable[[int], str]
"""A record's number to where it stands in its file."""


@dataclass
class Division:
    """Which side each record is on."""

    sides: NDArray[np.int8]
    """LEFT_OUT, or a place in SPLITS, [records]."""
    duplicates: int = 0
    """Records that were left out because an equal one is kept."""
    contradictions: int = 0
    """Contents that occur with more than one label; the most frequent is kept."""


def divide(catalog: Catalog, split: Split, seed: int, dropped: Dropped, locate: Locate) -> Division:
    """Sides of all records; what cannot be used is added to `dropped`.

    The catalog keeps the labels of the training part only. DataError where a side is empty, or
    where the files given for one hold a group of another.
    """
    usable = catalog.labels != BAD
    kept, contradictions = _first_of_each(catalog, usable)
    sides = np.full(len(catalog), LEFT_OUT, np.int8)
    sides[kept] = catalog.parts[kept]
    own = kept & (catalog.parts == OWN)
    if own.any():
        sides[own] = _sides(catalog, own, split, seed)
    for side, share in enumerate((1.0, split.validation, split.test)):
        if share and not (sides == side).any():
            raise DataError(_empty(side, int((sides >= 0).sum()), split))
    if len(catalog.groups):
        _check_groups(catalog, sides, split, locate)
    duplicates = int(usable.sum() - kept.sum())
    _drop_unknown(catalog, sides, dropped, locate)
    return Division(sides, duplicates, contradictions)


def check_labels(catalog: Catalog) -> None:
    """DataError where all records are of one class, or the classes are no classes."""
    counts = np.bincount(catalog.labels[catalog.labels >= 0], minlength=len(catalog.names))
    if len(counts) == 1:
        raise DataError(
            f'all {counts[0]:,} records have the label "{catalog.names[0]}": a classifier needs '
            "two at least; check data.columns.label"
        )
    once = np.flatnonzero(counts == 1)
    if len(counts) > MANY_CLASSES and len(once) > len(counts) / 2:
        raise DataError(
            f"{len(once):,} of {len(counts):,} labels occur once ({_named(catalog, once)}): is "
            "this the column of labels? name it in data.columns.label"
        )


def check_classes(catalog: Catalog, sides: NDArray[np.int8], split: Split) -> None:
    """DataError where the validation part lacks a class."""
    held = np.bincount(catalog.labels[sides == VALIDATION], minlength=len(catalog.names))
    missing = np.flatnonzero(held == 0)
    if not split.validation or not len(missing):
        return
    most = int(np.bincount(catalog.labels[sides >= 0])[missing].max())
    remedy = "give more records of it, or take it out"
    if isinstance(split.validation, str):
        remedy = "add records of it to the files of data.split.validation"
    elif split.by is not None or split.time is not None:
        key = "by" if split.by is not None else "time"
        remedy = f"raise data.split.validation, give more records, or leave data.split.{key} out"
    raise DataError(
        f"the validation part holds no record of {_named(catalog, missing)} "
        f"({most:,} {'record' if most == 1 else 'records'} of it in all): {remedy}"
    )


def counts_of(catalog: Catalog, sides: NDArray[np.int8]) -> dict[str, dict[str, int]]:
    """Records of each label on each side."""
    size = len(catalog.names)
    counts = [
        np.bincount(catalog.labels[(sides == side) & (catalog.labels >= 0)], minlength=size)
        for side in range(len(SPLITS))
    ]
    return {
        name: {split: int(counts[i][place]) for i, split in enumerate(SPLITS)}
        for place, name in enumerate(catalog.names)
    }


def _sides(catalog: Catalog, own: NDArray[np.bool_], split: Split, seed: int) -> NDArray[np.int8]:
    shares: Shares = {
        side: share
        for side, share in ((VALIDATION, split.validation), (TEST, split.test))
        if isinstance(share, float) and share
    }
    if split.time is not None:
        return by_time(catalog.times[own], shares)
    labels = catalog.labels[own].astype(np.int64)
    if split.by is not None:
        return by_group(labels, catalog.groups[own], seed, shares)
    return by_share(labels, catalog.digests[own], seed, shares)


def _first_of_each(catalog: Catalog, usable: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """Which records stay so that none occurs twice, and how many contents differ in their label.

    Of equal ones, one in files given for test stays, then for validation, then the oldest, then
    one with the most frequent label.
    """
    kept = usable.copy()
    places = np.flatnonzero(usable)
    _, members, counts = np.unique(catalog.digests[places], return_inverse=True, return_counts=True)
    again = counts[members] > 1
    places, members = places[again], members[again]
    if not len(places):
        return kept, 0
    labels = catalog.labels[places].astype(np.int64) + 1
    _, pairs, sizes = np.unique(
        members * (int(labels.max()) + 1) + labels, return_inverse=True, return_counts=True
    )
    times = catalog.times[places] if len(catalog.times) else np.zeros(len(places))
    order = np.lexsort((labels, -sizes[pairs], times, -catalog.parts[places], members))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = members[order][1:] != members[order][:-1]
    kept[places[order[~is_first]]] = False
    labels_of = np.bincount(np.unique(np.stack([members, labels]), axis=1)[0])
    return kept, int((labels_of > 1).sum())


def _check_groups(catalog: Catalog, sides: NDArray[np.int8], split: Split, locate: Locate) -> None:
    """No group is on two sides; only files given for one side can bring that about."""
    seen = np.flatnonzero(sides >= 0)
    _, first, members = np.unique(catalog.groups[seen], return_index=True, return_inverse=True)
    torn = np.flatnonzero(sides[seen] != sides[seen[first]][members])
    if len(torn):
        one, other = seen[torn[0]], seen[first[members[torn[0]]]]
        raise DataError(
            f"data.split.by: {len(np.unique(members[torn])):,} values of {split.by!r} are on two "
            f"sides: {locate(int(other))} ({SPLITS[sides[other]]}) and {locate(int(one))} "
            f"({SPLITS[sides[one]]}) share one; take them out of one file, or leave split.by out"
        )


def _drop_unknown(
    catalog: Catalog, sides: NDArray[np.int8], dropped: Dropped, locate: Locate
) -> None:
    """Leave out held-back records whose label no training record has."""
    trained = np.zeros(len(catalog.names), np.bool_)
    trained[catalog.labels[(sides == 0) & (catalog.labels >= 0)]] = True
    known = np.append(trained, [False, True])[catalog.labels]  # BAD, NO_LABEL
    for number in np.flatnonzero((sides > 0) & ~known).tolist():
        name = catalog.names[catalog.labels[number]]
        place = "" if dropped.has_examples else locate(number)
        dropped.add(Bad(f'label outside the known set ("{name}" is not in training)', place))
        sides[number] = LEFT_OUT
    catalog.renumber(trained)


def _empty(side: int, num_records: int, split: Split) -> str:
    remedy = "give more records"
    if side:
        remedy += f", or change data.split.{SPLITS[side]}"
    if split.by is not None:
        remedy = f"data.split.by {split.by!r} has too few values to share them out; leave it out"
    if split.time is not None:
        remedy = f"data.split.time {split.time!r} has too few different values; leave it out"
    return f"the {SPLITS[side]} part holds none of {num_records:,} records: {remedy}"


def _named(catalog: Catalog, classes: NDArray[np.int64]) -> str:
    told = ", ".join(f'"{catalog.names[place]}"' for place in classes[:NAMED].tolist())
    return told + (f" and {len(classes) - NAMED:,} more" if len(classes) > NAMED else "")
