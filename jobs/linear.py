"""Linear layers at ZeRO stage 3, computed as everywhere else.

There DeepSpeed replaces ``torch.nn.functional.linear`` for the whole process, so that gathered
weights can be freed after the forward pass. Its own rounds the product before it adds the bias,
where torch's adds first: in bf16 the same weights would give other logits than their bundle does.
"""

from __future__ import annotations

import torch
from deepspeed.runtime.zero.linear import LinearFunctionForZeroStage3
from torch import Tensor
from torch.nn import functional

# By its place in torch: DeepSpeed may have replaced the name in `functional` already.
TORCH_LINEAR = torch._C._nn.linear


def compute_as_torch() -> None:
    """Let DeepSpeed's layers, here on, give what torch's give; they still free their weights."""
    LinearFunctionForZeroStage3.forward = staticmethod(_forward)


def restore() -> None:
    """Take DeepSpeed's layers out of this process again."""
    functional.linear = TORCH_LINEAR


def _forward(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = TORCH_LINEAR(input, weight, bias)
    return found
