import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.order import WINDOW, rows_of_step, rows_of_step_by_length


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(20, 600))
def test_every_epoch_is_a_permutation(num_rows: int, seed: int, global_batch: int) -> None:
    steps = -(-2 * num_rows // global_batch)
    rows = np.concatenate([rows_of_step(seed, s, global_batch, num_rows) for s in range(steps)])
    for epoch in range(2):
        part = rows[epoch * num_rows : (epoch + 1) * num_rows]
        assert np.array_equal(np.sort(part), np.arange(num_rows))


def test_epochs_and_seeds_differ() -> None:
    first, second = rows_of_step(1, 0, 1000, 1000), rows_of_step(1, 1, 1000, 1000)
    other = rows_of_step(2, 0, 1000, 1000)
    assert (first == second).mean() < 0.02
    assert (first == other).mean() < 0.02
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1


def test_the_order_is_the_same_everywhere_and_for_ever() -> None:
    assert rows_of_step(7, 3, 6, 1000).tolist() == EXPECTED
    assert rows_of_step(7, 3, 6, 1000).dtype == np.int64


def test_a_worker_may_ask_for_far_steps_and_large_data() -> None:
    rows = rows_of_step(0, 10**9, 32, 10**10)
    assert rows.shape == (32,)
    assert rows.min() >= 0
    assert rows.max() < 10**10


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 500), st.integers(0, 2**63), st.integers(1, 40), st.integers(0, 3))
def test_batches_by_length_hold_the_same_rows(
    num_rows: int, seed: int, global_batch: int, number: int
) -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, num_rows)
    window = max(1, min(WINDOW, num_rows // global_batch))
    steps = range(number * window, (number + 1) * window)

    def take(step: int) -> np.ndarray:
        return rows_of_step_by_length(seed, step, global_batch, num_rows, lengths.__getitem__)

    found = [take(step) for step in steps]
    plain = [rows_of_step(seed, step, global_batch, num_rows) for step in steps]
    assert np.array_equal(np.sort(np.concatenate(found)), np.sort(np.concatenate(plain)))
    spans = sorted((lengths[rows].min(), lengths[rows].max()) for rows in found)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert np.array_equal(take(steps[-1]), found[-1])


def test_batches_by_length_come_in_no_order_of_their_length() -> None:
    lengths = np.random.default_rng(0).permutation(10_000)
    means = [
        lengths[rows_of_step_by_length(3, step, 10, 10_000, lengths.__getitem__)].mean()
        for step in range(4 * WINDOW)
    ]
    places = [np.argsort(means[i : i + WINDOW]).tolist() for i in range(0, 4 * WINDOW, WINDOW)]
    assert len(set(map(str, places))) > 1
    assert list(range(WINDOW)) not in places


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        rows_of_step(0, 0, 4, 0)


EXPECTED = [456, 492, 292, 380, 535, 279]
