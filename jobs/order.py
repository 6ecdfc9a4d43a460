"""The order of the training rows as a pure function of the seed and the step.

No shuffled list is stored or sent: every worker asks for the rows of a step and gets the same
answer, whatever the number of workers, before and after a restart, in memory that depends on the
batch alone. Each epoch is a permutation of its own, computed element by element by a Feistel
network over the next power of four that is walked until it lands below the number of rows
(Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002).
"""

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
MIN_HALF_BITS = 3  # below 64 elements a network mixes badly; walking a larger one costs little

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


def rows_of_step(seed: int, step: int, global_batch: int, num_rows: int) -> Ints:
    """Row numbers of one step, [global_batch]; a batch may cross the border of two epochs."""
    if num_rows < 1:
        raise ValueError("there are no rows to train on")
    samples = step * global_batch + np.arange(global_batch, dtype=np.int64)
    return permute(seed, samples // num_rows, samples % num_rows, num_rows)


def permute(seed: int, epochs: Ints, positions: Ints, num_rows: int) -> Ints:
    """Row at each position of each epoch, elementwise over equal shapes [n]."""
    half_bits = max(MIN_HALF_BITS, ((num_rows - 1).bit_length() + 1) // 2)
    keys = _keys(seed, epochs)
    rows = _feistel(positions.astype(np.uint64), keys, half_bits)
    outside = np.flatnonzero(rows >= num_rows)
    while outside.size:
        rows[outside] = _feistel(rows[outside], keys[:, outside], half_bits)
        outside = outside[rows[outside] >= num_rows]
    return rows.astype(np.int64)


def _keys(seed: int, epochs: Ints) -> Words:
    """One key per round and element, [rounds, n]."""
    start = _mix(np.uint64(seed & (2**64 - 1)) ^ _mix(epochs.astype(np.uint64)))
    rounds = np.arange(1, ROUNDS + 1, dtype=np.uint64)[:, None]
    return _mix(start[None, :] + rounds * np.uint64(0x9E3779B97F4A7C15))


def _feistel(values: Words, keys: Words, half_bits: int) -> Words:
    mask, shift = np.uint64((1 << half_bits) - 1), np.uint64(half_bits)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


def _mix(words: Words) -> Words:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014); wraps at 2**64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
