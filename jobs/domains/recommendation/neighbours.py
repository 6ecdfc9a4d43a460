"""Simple recommenders beside the network's: what is popular, and neighbours of what was taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from jobs.domains.recommendation.ranking import TOP, metrics_of

NEIGHBOURS = 20
"""Of each item, by the cosine of who took both (Sarwar et al., WWW 2001)."""
MOST_ITEMS = 200_000
"""Of a larger catalogue only what is popular is counted."""
BLOCK = 1024


def baselines(
    train: Iterable[Mapping[str, NDArray[Any]]],
    held_back: Iterable[Mapping[str, NDArray[Any]]],
    num_items: int,
) -> dict[str, Any]:
    """{"name", metric...} of item neighbours, and "popularity ndcg@10" beside it.

    Learned from the training rows; ranked are items 1 to num_items, which training knows, without
    those seen, as for the network.
    """
    taken = _matrix(train, num_items)
    popular = np.asarray(taken.sum(0)).ravel()
    near = _neighbours(taken) if num_items <= MOST_ITEMS else None
    found: dict[str, list[Any]] = {"rank": [], "top": [], "popular": [], "popular_top": []}
    for rows in held_back:
        for place, target in enumerate(rows["target"].tolist()):
            seen = np.unique(rows["items"][place, : int(rows["items_length"][place])]).astype(int)
            seen = seen[(seen > 0) & (seen <= num_items)] - 1
            scores = popular.astype(np.float64)
            _note(found, "popular", "popular_top", scores, seen, target)
            if near is not None:
                scores = np.asarray(near[seen].sum(0)).ravel()
            _note(found, "rank", "top", scores, seen, target)
    arrays = {name: np.asarray(values) for name, values in found.items()}
    metrics = metrics_of({"rank": arrays["rank"], "top": arrays["top"]}, num_items)
    plain = metrics_of({"rank": arrays["popular"], "top": arrays["popular_top"]}, num_items)
    named = {f"popularity {name}": value for name, value in plain.items()}
    return {"name": "item neighbours" if near is not None else "popularity", **metrics, **named}


def rank_of(scores: NDArray[np.float64], seen: NDArray[np.int64], target: int) -> int:
    """Items above `target` (from 1) that are not `seen` (from 0); all where it is no candidate."""
    if not 0 < target <= len(scores) or target - 1 in seen:
        return len(scores)
    left = scores.copy()
    left[seen] = -np.inf
    own = left[target - 1]
    return int((left > own).sum() + (left[: target - 1] == own).sum())


def _note(
    found: dict[str, list[Any]],
    rank: str,
    top: str,
    scores: NDArray[np.float64],
    seen: NDArray[np.int64],
    target: int,
) -> None:
    found[rank].append(rank_of(scores, seen, target))
    scores[seen] = -np.inf
    best = np.argsort(-scores, kind="stable")[:TOP]
    kept = np.where(np.isfinite(scores[best]), best + 1, 0)
    found[top].append(np.pad(kept, (0, TOP - len(kept))))


def _matrix(train: Iterable[Mapping[str, NDArray[Any]]], num_items: int) -> Any:
    """Who took what in training, 0 or 1, [users, items]."""
    users, items = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for rows in train:
        mask = np.arange(rows["items"].shape[1])[None] < rows["items_length"][:, None]
        users.append(np.repeat(rows["user"].astype(np.int64), mask.sum(1)))
        items.append(rows["items"][mask].astype(np.int64) - 1)
    pairs = (np.concatenate(users), np.concatenate(items))
    size = (int(pairs[0].max(initial=0)) + 1, num_items)
    taken = sparse.csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), shape=size)
    taken.data[:] = 1  # windows overlap by one item
    return taken


def _neighbours(taken: Any) -> Any:
    """Cosines of each item with its nearest, sparse [items, items]."""
    norms = np.sqrt(np.maximum(np.asarray(taken.sum(0)).ravel(), 1))
    scaled = (taken @ sparse.diags(1 / norms)).tocsc()
    blocks = []
    for begin in range(0, taken.shape[1], BLOCK):
        block = (scaled[:, begin : begin + BLOCK].T @ scaled).tocsr()
        blocks.append(_nearest(block, begin))
    return sparse.vstack(blocks).tocsr()


def _nearest(block: Any, begin: int) -> Any:
    """Rows of a block [some, items] with all but their largest values left out."""
    columns, values, sizes = [], [], []
    for row in range(block.shape[0]):
        own = slice(block.indptr[row], block.indptr[row + 1])
        places, weights = block.indices[own], block.data[own]
        others = places != begin + row
        places, weights = places[others], weights[others]
        kept = np.lexsort((places, -weights))[:NEIGHBOURS]
        columns.append(places[kept])
        values.append(weights[kept])
        sizes.append(len(kept))
    parts = (np.concatenate(values), np.concatenate(columns), np.cumsum([0, *sizes]))
    return sparse.csr_matrix(parts, shape=block.shape)
