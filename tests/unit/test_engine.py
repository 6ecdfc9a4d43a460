"""What the engine is told: layout, DeepSpeed's configuration, groups of parameters, seeds."""

from typing import Any

import pytest
import torch
from deepspeed.runtime.zero.linear import zero3_linear_wrap
from torch import nn
from torch.nn import functional

from cluster.spec import TrainSpec
from jobs.engine import decay_groups, engine_config, layout, set_seed
from jobs.linear import compute_as_torch


def train(**keys: Any) -> TrainSpec:
    return TrainSpec.model_validate({"steps": 10, **keys})


@pytest.mark.parametrize(
    ("keys", "workers", "micro", "accumulation"),
    [
        ({"global_batch": 64}, 2, 32, 1),
        ({"global_batch": 96}, 2, 24, 2),
        ({"global_batch": 64, "micro_batch": 4}, 2, 4, 8),
        ({"global_batch": 7}, 1, 7, 1),
        ({"global_batch": 74}, 2, 1, 37),
    ],
)
def test_layout(keys: dict[str, Any], workers: int, micro: int, accumulation: int) -> None:
    found = layout(train(**keys), workers)
    assert (found.micro_batch, found.accumulation) == (micro, accumulation)
    assert found.micro_batch * found.accumulation * workers == keys["global_batch"]


def test_a_batch_that_workers_cannot_share() -> None:
    with pytest.raises(ValueError, match=r"choose a multiple of 3"):
        layout(train(global_batch=32), 3)
    with pytest.raises(ValueError, match=r"train\.micro_batch: 5 does not divide"):
        layout(train(global_batch=32, micro_batch=5), 2)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_engine_config(stage: int) -> None:
    spec = train(global_batch=16, micro_batch=2, clip=0.5)
    config = engine_config(spec, stage, "bf16", layout(spec, 2), 90_000_000, 60_000_000)
    assert config["train_batch_size"] == 16
    assert config["gradient_accumulation_steps"] == 4
    assert config["gradient_clipping"] == 0.5
    assert config["bf16"]["enabled"]
    assert not config["fp16"]["enabled"]
    assert config["zero_optimization"]["stage"] == stage
    assert config["zero_optimization"]["reduce_bucket_size"] == 60_000_000
    assert "offload_optimizer" not in config["zero_optimization"]
    small = engine_config(spec, stage, "bf16", layout(spec, 2), 1_000_000, 400_000)
    assert small["zero_optimization"]["reduce_bucket_size"] == 1_000_000


def test_matrices_decay_and_vectors_do_not() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    matrices, vectors = decay_groups(network, 0.1)
    assert [p.dim() for p in matrices["params"]] == [2]
    assert [p.dim() for p in vectors["params"]] == [1, 1, 1]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)


def test_seeds_differ_by_step_rank_and_micro_batch() -> None:
    def drawn(*key: int) -> float:
        set_seed(*key)
        return float(torch.rand(()))

    assert drawn(0, 1, 2, 3) == drawn(0, 1, 2, 3)
    assert len({drawn(0, *key) for key in [(1, 2, 3), (2, 1, 3), (1, 3, 2), (0, 0, 0)]}) == 4


def test_linear_layers_at_stage_3_give_what_others_give() -> None:
    compute_as_torch()
    torch.manual_seed(0)
    shapes = ((4, 64, 64), (64, 64), (64,))
    given = [torch.randn(shape).bfloat16().requires_grad_() for shape in shapes]
    other = [tensor.detach().clone().requires_grad_() for tensor in given]
    found, wanted = zero3_linear_wrap(*given), functional.linear(*other)
    assert torch.equal(found, wanted)
    found.float().square().sum().backward()
    wanted.float().square().sum().backward()
    for one, two in zip(given, other, strict=True):
        torch.testing.assert_close(one.grad, two.grad)
