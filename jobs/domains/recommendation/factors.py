"""Matrix factorisation with biases (Koren, Bell and Volinsky, IEEE Computer 42(8), 2009)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class FactorShape:
    """Sizes of the network, as its config.json holds them."""

    num_users: int
    num_items: int
    width: int
    dropout: float
    mean: float
    """Of all training ratings."""

    def dump(self) -> dict[str, Any]:
        return asdict(self)


class MatrixFactorisation(nn.Module):
    """Rating = mean + bias of the user + bias of the item + product of their factors.

    Number 0 is a user or an item that training has not seen: it has no bias and no factors.
    """

    def __init__(self, shape: FactorShape) -> None:
        super().__init__()
        self.shape = shape
        self.users = nn.Embedding(shape.num_users + 1, shape.width, padding_idx=0)
        self.items = nn.Embedding(shape.num_items + 1, shape.width, padding_idx=0)
        self.user_bias = nn.Embedding(shape.num_users + 1, 1, padding_idx=0)
        self.item_bias = nn.Embedding(shape.num_items + 1, 1, padding_idx=0)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1 * shape.width**-0.5)
            with torch.no_grad():
                table.weight[0] = 0
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Ratings [batch] of users by items, by number."""
        own = functional.dropout(self.users(users), self.shape.dropout, self.training)
        product = (own * self.items(items)).sum(1)
        biases = (self.user_bias(users) + self.item_bias(items))[:, 0]
        ratings: Tensor = product + biases + self.shape.mean
        return ratings

    def gradient_checkpointing_enable(self) -> None:
        """There are no activations worth it."""


def parse_factors(content: Mapping[str, Any]) -> FactorShape:
    """What `FactorShape.dump` gave."""
    return FactorShape(**content)
