"""Which side each record is on: by share, by group or by time; the same for the same records.

Sides are 0 train, 1 validation, 2 test. Everything depends on the content of the records and on
the seed, and on their order only between records that are alike in all that counts.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Digests = NDArray[np.uint64]
    Sides = NDArray[np.int8]

Shares = Mapping[int, float]
"""Side (1 or 2) to its share of the records."""
TRAIN, VALIDATION, TEST = 0, 1, 2


def keys_of(digests: Digests, seed: int) -> Digests:
    """Numbers [n] in an order that the seed decides (splitmix64 of digest and seed)."""
    salt = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little")
    keys = digests ^ np.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return keys ^ (keys >> np.uint64(31))


def by_share(labels: Numbers, digests: Digests, seed: int, shares: Shares) -> Sides:
    """Sides [n], each label divided by the shares: stratified.

    A label of two or more records has one on each side at least, validation first, as long as
    training keeps one.
    """
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((keys_of(digests, seed), classes))
    ranks = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    validation = _quotas(counts, shares.get(VALIDATION, 0.0), np.zeros_like(counts))
    test = _quotas(counts, shares.get(TEST, 0.0), validation)
    own = classes[order]
    sides = np.zeros(len(labels), np.int8)
    sides[order] = np.where(
        ranks < validation[own], VALIDATION, np.where(ranks < (validation + test)[own], TEST, TRAIN)
    )
    return sides


def by_group(labels: Numbers, groups: Digests, seed: int, shares: Shares) -> Sides:
    """Sides [n]: all records of a group on one side, labels and sizes as near as that allows.

    Groups come in the seed's order, those of twice the size earlier, each to the side that its
    labels are rarest on (after stratified group k-fold); each side wants every label once at least.
    """
    names, members, extents = np.unique(groups, return_inverse=True, return_counts=True)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    pairs, sizes = np.unique(members * len(counts) + classes, return_counts=True)
    content: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for pair, size in zip(pairs.tolist(), sizes.tolist(), strict=True):
        content[pair // len(counts)].append((pair % len(counts), size))
    wanted = {TRAIN: 1 - sum(shares.values())} | dict(shares)
    left = {s: [max(share * n, 1.0) for n in counts.tolist()] for s, share in wanted.items()}
    targets = {side: list(amounts) for side, amounts in left.items()}
    totals = counts.tolist()
    chosen = np.zeros(len(names), np.int8)
    for group in np.lexsort((keys_of(names, seed), -np.log2(extents).astype(np.int64))).tolist():
        own = content[group]
        scores = {
            side: sum(n / totals[c] * (left[side][c] - n) / targets[side][c] for c, n in own)
            for side in wanted
        }
        side = max(scores, key=lambda s: scores[s])
        chosen[group] = side
        for label, size in own:
            left[side][label] -= size
    return chosen[members]


def by_time(times: NDArray[np.float64], shares: Shares) -> Sides:
    """Sides [n]: the newest for test, those before for validation; equal times stay together.

    Borders are the times nearest to the shares; a side may stay empty where times are few.
    """
    moments, counts = np.unique(times, return_counts=True)
    before = np.cumsum(counts) - counts  # records older than each moment
    sides = np.zeros(len(times), np.int8)
    held = 0.0
    for side in (TEST, VALIDATION):
        if share := shares.get(side, 0.0):
            held += share
            nearest = int(np.argmin(np.abs(before - (1 - held) * len(times))))
            sides[(times >= moments[nearest]) & (sides == TRAIN)] = side
    return sides


def _quotas(counts: Numbers, share: float, taken: Numbers) -> Numbers:
    """How many of each class [classes]: `share` of them by largest remainder, one at least."""
    if not share:
        return np.zeros_like(counts)
    exact = share * counts
    room = np.maximum(counts - taken - 1, 0)
    quotas: Numbers = np.minimum(np.maximum(np.floor(exact).astype(np.int64), 1), room)
    missing = round(share * int(counts.sum())) - int(quotas.sum())
    by_remainder = np.argsort(quotas - exact, kind="stable")
    for place in by_remainder[: max(0, missing)].tolist():
        quotas[place] += quotas[place] < room[place]
    return quotas
