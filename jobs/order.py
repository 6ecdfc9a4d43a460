"""The order of the training rows as a pure function of the seed and the step.

No shuffled list is stored or sent: every worker asks for the rows of a step and gets the same
answer, whatever the number of workers, before and after a restart, in memory that depends on the
batch alone. Each epoch is a permutation of its own, computed element by element: a generalised
Feistel network over Z_a x Z_b, with a x b just above the number of rows, walked on until it lands
below it (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002).
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
WINDOW = 8
"""Steps whose rows are put in order by length; more save little padding and mix less."""
MIN_SIDE = 8  # below 64 elements a network mixes badly; walking a larger one costs little

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


def rows_of_step(seed: int, step: int, global_batch: int, num_rows: int) -> Ints:
    """Row numbers of one step, [global_batch]; a batch may cross the border of two epochs."""
    if num_rows < 1:
        raise ValueError("there are no rows to train on")
    samples = step * global_batch + np.arange(global_batch, dtype=np.int64)
    return permute(seed, samples // num_rows, samples % num_rows, num_rows)


def rows_of_step_by_length(
    seed: int,
    step: int,
    global_batch: int,
    num_rows: int,
    lengths: Callable[[Ints], Ints],
) -> Ints:
    """As `rows_of_step`, in batches of rows that are about equally long, the shortest first.

    The rows of `WINDOW` steps, or of an epoch where it has fewer, are put in order by `lengths`,
    cut into batches, and these drawn in an order of their own: each row still comes as often.
    """
    window = max(1, min(WINDOW, num_rows // global_batch))
    number, place = divmod(step, window)
    steps = range(number * window, (number + 1) * window)
    rows = np.concatenate([rows_of_step(seed, s, global_batch, num_rows) for s in steps])
    rows = rows[np.argsort(lengths(rows), kind="stable")]
    drawn = permute(seed, np.asarray([number]), np.asarray([place]), window)
    found: Ints = rows.reshape(window, global_batch)[int(drawn[0])]
    return found


def permute(seed: int, epochs: Ints, positions: Ints, num_rows: int) -> Ints:
    """Row at each position of each epoch, elementwise over equal shapes [n]."""
    side = max(MIN_SIDE, math.isqrt(num_rows - 1) + 1)
    sides = np.uint64(side), np.uint64(max(MIN_SIDE, -(-num_rows // side)))
    keys = _keys(seed, epochs)
    rows = _feistel(positions.astype(np.uint64), keys, sides)
    outside = np.flatnonzero(rows >= num_rows)
    while outside.size:
        rows[outside] = _feistel(rows[outside], keys[:, outside], sides)
        outside = outside[rows[outside] >= num_rows]
    return rows.astype(np.int64)


def _keys(seed: int, epochs: Ints) -> Words:
    """One key per round and element, [rounds, n]."""
    start = _mix(np.uint64(seed & (2**64 - 1)) ^ _mix(epochs.astype(np.uint64)))
    rounds = np.arange(1, ROUNDS + 1, dtype=np.uint64)[:, None]
    return _mix(start[None, :] + rounds * np.uint64(0x9E3779B97F4A7C15))


def _feistel(values: Words, keys: Words, sides: tuple[np.uint64, np.uint64]) -> Words:
    """A permutation of 0 <= value < sides[0] * sides[1], one round per key [rounds, n]."""
    left, right = np.divmod(values, sides[1])
    left_side, right_side = sides
    for key in keys:
        left, right = right, (left + _mix(right ^ key) % left_side) % left_side
        left_side, right_side = right_side, left_side
    return left * right_side + right


def _mix(words: Words) -> Words:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014); wraps at 2**64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
