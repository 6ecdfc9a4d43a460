"""ZeRO's arithmetic, and the choice of a stage."""

import pytest

from cluster.memory import Estimate, bucket_elements, choose_stage, model_states


@pytest.mark.parametrize(
    ("stage", "expected"),
    [(0, (2, 2, 12)), (1, (2, 2, 3)), (2, (2, 0.5, 3)), (3, (0.5, 0.5, 3))],
)
def test_mixed_precision_is_the_papers_table(stage: int, expected: tuple[float, ...]) -> None:
    assert model_states(1, stage, 4, "bf16") == expected


def test_fp32_has_no_second_copy_until_it_is_sharded() -> None:
    assert model_states(1, 0, 2, "fp32") == (4, 4, 8)
    assert model_states(1, 1, 2, "fp32") == (4, 4, 6)
    assert model_states(1, 3, 2, "fp32") == (2, 2, 6)


def test_offloaded_states_take_nothing_of_the_device() -> None:
    assert model_states(1, 2, 2, "bf16", "cpu")[2] == 0


def test_the_lowest_stage_that_fits() -> None:
    estimates = {stage: Estimate(100 - 20 * stage, 0, 0, 0) for stage in range(4)}
    assert choose_stage(estimates, 1000, 4) == 0
    assert choose_stage(estimates, 80, 4) == 2
    assert choose_stage(estimates, 1, 4) == 3
    assert choose_stage(estimates, 1, 1) == 0


def test_buckets_are_even() -> None:
    """DeepSpeed refuses others: a network may well have an odd number of parameters."""
    assert bucket_elements(143_133) == 143_134
    assert bucket_elements(100, 101) == 102
    assert bucket_elements(90_000_001) == 50_000_000
