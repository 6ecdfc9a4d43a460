"""Stacks of convolutions in time with batch norms that count no padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL = 5


class Convolutions(nn.Module):
    """Convolution, batch norm, activation, dropout; several times."""

    def __init__(
        self, sizes: Sequence[int], activation: str, dropout: float, ends_plain: bool = False
    ) -> None:
        """`ends_plain`: no activation after the last."""
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, KERNEL, padding=KERNEL // 2, bias=False) for a, b in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:])
        self.activation, self.dropout, self.ends_plain = activation, dropout, ends_plain

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """[batch, time, channels] in and out, 0 where `mask` [batch, time] is False."""
        states = states * mask[..., None]
        last = len(self.layers) - 1
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            read = layer(states.transpose(1, 2)).transpose(1, 2)
            normed = norm(read[mask])
            if number < last or not self.ends_plain:
                normed = getattr(torch, self.activation)(normed)
            normed = functional.dropout(normed, self.dropout, self.training)
            states = torch.zeros_like(read).masked_scatter(mask[..., None], normed)
        return states
