"""Mean and biases of users and items by alternating least squares, without any factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAMPING_USERS, DAMPING_ITEMS = 5.0, 5.0
"""So many ratings of the mean are added to each (as in Funk's baseline)."""
ROUNDS = 10


@dataclass(frozen=True)
class Biases:
    """What users and items add to the mean; 0 for number 0, which is unknown."""

    mean: float
    users: NDArray[np.float64]
    items: NDArray[np.float64]

    def predict(self, users: NDArray[Any], items: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.mean + self.users[users] + self.items[items]
        return found


def fit_biases(
    users: NDArray[Any], items: NDArray[Any], ratings: NDArray[Any], num_users: int, num_items: int
) -> Biases:
    """From ratings [n] of users by items, by number from 1."""
    mean = float(ratings.mean(dtype=np.float64))
    left = ratings.astype(np.float64) - mean
    found = Biases(mean, np.zeros(num_users + 1), np.zeros(num_items + 1))
    for _ in range(ROUNDS):
        found.items[:] = _means(items, left - found.users[users], num_items, DAMPING_ITEMS)
        found.users[:] = _means(users, left - found.items[items], num_users, DAMPING_USERS)
    return found


def _means(
    places: NDArray[Any], values: NDArray[np.float64], num: int, damping: float
) -> NDArray[np.float64]:
    sums = np.bincount(places, values, num + 1)
    means: NDArray[np.float64] = sums / (np.bincount(places, minlength=num + 1) + damping)
    means[0] = 0
    return means
