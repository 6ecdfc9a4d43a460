import numpy as np
import pytest

from jobs.domains.records.splitting import TEST, TRAIN, VALIDATION, by_group, by_share, by_time

SHARES = {VALIDATION: 0.1, TEST: 0.1}


def digests(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def counts(labels: np.ndarray, sides: np.ndarray) -> list[list[int]]:
    return [
        [int(((labels == label) & (sides == side)).sum()) for side in range(3)]
        for label in np.unique(labels)
    ]


def test_labels_are_divided_by_the_shares() -> None:
    labels = np.repeat([0, 1, 2, 3], [1000, 205, 3, 2])
    sides = by_share(labels, digests(len(labels)), 0, SHARES)
    assert counts(labels, sides)[0] == [800, 100, 100]
    assert [sum(own) for own in zip(*counts(labels, sides), strict=True)] == [967, 122, 121]
    assert counts(labels, sides)[2:] == [[1, 1, 1], [1, 1, 0]]


def test_many_small_labels_meet_the_shares_together() -> None:
    labels = np.repeat(np.arange(100), 14)
    sides = by_share(labels, digests(len(labels)), 0, SHARES)
    assert np.bincount(sides).tolist() == [1120, 140, 140]


def test_a_label_of_one_record_is_trained_on() -> None:
    labels = np.asarray([0] * 20 + [1])
    assert by_share(labels, digests(21), 0, SHARES)[-1] == TRAIN


@pytest.mark.parametrize("method", [by_share, by_group])
def test_sides_depend_on_content_and_seed_but_not_on_order(method) -> None:
    labels, keys = np.arange(600) % 3, digests(600)
    first = method(labels, keys, 0, SHARES)
    order = np.random.default_rng(1).permutation(600)
    assert (method(labels[order], keys[order], 0, SHARES) == first[order]).all()
    assert (method(labels, keys, 1, SHARES) != first).any()


def test_groups_stay_together_and_labels_spread() -> None:
    rng = np.random.default_rng(0)
    groups = digests(80)[rng.integers(0, 80, 2000) // rng.integers(1, 5, 2000)]
    labels = np.where(rng.random(2000) < 0.03, 2, rng.integers(0, 2, 2000))
    sides = by_group(labels, groups, 0, SHARES)
    for group in np.unique(groups):
        assert len(np.unique(sides[groups == group])) == 1
    shares = np.bincount(sides) / 2000
    assert abs(shares[1] - 0.1) < 0.03
    assert abs(shares[2] - 0.1) < 0.03
    assert all(min(own) > 0 for own in counts(labels, sides))


def test_a_group_larger_than_a_share_is_trained_on() -> None:
    groups = np.asarray([7] * 500 + list(range(100, 600)), np.uint64)
    sides = by_group(np.zeros(1000, np.int64), groups, 3, SHARES)
    assert (sides[:500] == TRAIN).all()
    assert np.bincount(sides).tolist() == [800, 100, 100]


def test_the_newest_are_held_back() -> None:
    times = np.random.default_rng(0).permutation(1000).astype(float)
    sides = by_time(times, SHARES)
    assert sorted(times[sides == TEST]) == list(range(900, 1000))
    assert sorted(times[sides == VALIDATION]) == list(range(800, 900))


def test_equal_times_stay_on_one_side() -> None:
    times = np.repeat([1.0, 2.0, 3.0, 4.0], [400, 420, 60, 120])
    sides = by_time(times, SHARES)
    assert {(t, s) for t, s in zip(times.tolist(), sides.tolist(), strict=True)} == {
        (1.0, TRAIN),
        (2.0, TRAIN),
        (3.0, VALIDATION),
        (4.0, TEST),
    }
