"""What an evaluation compares with: extremely randomised trees on pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.domains.vision.pictures import Pictures

SIDE = 16
"""Pictures are brought to about this side, by means over squares of pixels."""
MOST_ROWS = 20_000
NUM_TREES = 100
Rows = Iterable[Mapping[str, NDArray[Any]]]


def predict(
    train: Rows, held_back: Rows, pictures: Pictures, names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Labels [rows] of what is held back, shares of the classes [rows, classes], majority class.

    Geurts et al., 2006. Learned from at most 20,000 rows, as they come.
    """
    from sklearn.ensemble import ExtraTreesClassifier  # slow to import

    features, labels = _features(train, pictures, MOST_ROWS)
    trees = ExtraTreesClassifier(NUM_TREES, min_samples_leaf=2, n_jobs=1, random_state=0)
    trees.fit(features, labels)
    own, held_back_labels = _features(held_back, pictures, None)
    shares = np.full((len(own), len(names)), 1e-3)
    shares[:, trees.classes_] += trees.predict_proba(own)
    shares /= shares.sum(1, keepdims=True)
    return held_back_labels, shares, int(np.bincount(labels).argmax())


def _features(
    batches: Rows, pictures: Pictures, most: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Reduced pixels [rows, values], and labels [rows]."""
    parts, labels, number = [], [], 0
    for rows in batches:
        parts.append(_reduced(pictures.shaped(rows["pixels"])))
        labels.append(rows["label"].astype(np.int64))
        number += len(rows["label"])
        if most is not None and number >= most:
            break
    return np.concatenate(parts)[:most], np.concatenate(labels)[:most]


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    number, channels, size, _ = pixels.shape
    step = max(1, round(size / SIDE))
    kept = size // step * step
    squares = pixels[:, :, :kept, :kept].reshape(number, channels, kept // step, step, -1, step)
    means: NDArray[np.float32] = squares.mean((3, 5), dtype=np.float32)
    return means.reshape(number, -1)
