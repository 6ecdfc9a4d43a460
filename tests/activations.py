"""What autograd keeps of a forward pass until the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def kept_bytes(network: nn.Module, run: Callable[[], Any]) -> int:
    """Bytes of distinct storages that `run` makes autograd keep, beside weights and buffers.

    Weights that are gathered for the pass (ZeRO stage 3) count as weights.
    """
    found: dict[int, int] = {}

    def look(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        own = [*network.parameters(), *network.buffers()]
        if storage.data_ptr() not in {each.untyped_storage().data_ptr() for each in own}:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        result = run()
    del result
    return sum(found.values())
