"""Matrix factorisation with biases (Koren, Bell and Volinsky, IEEE Computer 42(8), 2009)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HALF_LIFE = 15.0
"""Places after which a user's older rating begins training at half the weight."""


@dataclass(frozen=True)
class FactorShape:
    """Sizes of the network, as its config.json holds them."""

    num_users: int
    num_items: int
    width: int
    dropout: float
    recent: int
    damping: float
    mean: float
    """Of all training ratings."""
    num_ratings: int

    def dump(self) -> dict[str, Any]:
        return {"type": "matrix-factorisation", **asdict(self)}


class MatrixFactorisation(nn.Module):
    """Rating = mean + bias of the item + bias of the user + their drift + product of factors.

    The drift is what the user's newest ratings were above their items' biases, on a weighted
    average whose weights are learned: people rate by mood, and their scale moves over the years
    (Koren, KDD 2009). Number 0 is a user or an item that training has not seen: it has no bias and
    no factors.
    """

    def __init__(self, shape: FactorShape) -> None:
        super().__init__()
        self.shape = shape
        self.users = nn.Embedding(shape.num_users + 1, shape.width, padding_idx=0)
        self.items = nn.Embedding(shape.num_items + 1, shape.width, padding_idx=0)
        self.user_bias = nn.Embedding(shape.num_users + 1, 1, padding_idx=0)
        self.item_bias = nn.Embedding(shape.num_items + 1, 1, padding_idx=0)
        ages = torch.arange(shape.recent) / HALF_LIFE
        self.weights = nn.Parameter(-ages * torch.log(torch.tensor(2.0)))
        self.doubt = nn.Parameter(torch.tensor([1.0]))
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1 * shape.width**-0.5)
            with torch.no_grad():
                table.weight[0] = 0
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)

    def forward(
        self, users: Tensor, items: Tensor, recent: Tensor, ratings: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Ratings [batch] of users by items, and the penalty on the weights, a scalar.

        `recent` and `ratings` [batch, many]: items that the users rated, the newest first; NaN
        where there is none.
        """
        factors = functional.dropout(self.users(users), self.shape.dropout, self.training)
        product = (factors * self.items(items)).sum(1)
        biases = (self.user_bias(users) + self.item_bias(items))[:, 0]
        found = product + biases + self._drift(recent, ratings) + self.shape.mean
        return found, self._penalty()

    def gradient_checkpointing_enable(self) -> None:
        """There are no activations worth it."""

    def _drift(self, recent: Tensor, ratings: Tensor) -> Tensor:
        if not recent.shape[1]:
            return torch.zeros(len(recent), device=recent.device)
        known = ~ratings.isnan()
        above = ratings.nan_to_num() - self.shape.mean - self.item_bias(recent)[..., 0]
        weights = self.weights[: recent.shape[1]].exp() * known
        drift: Tensor = (weights * above).sum(1) / (weights.sum(1) + self.doubt.exp())
        return drift

    def _penalty(self) -> Tensor:
        """As if each weight had `damping` ratings more that ask it to be 0, per rating."""
        tables = (self.users, self.items, self.user_bias, self.item_bias)
        squares = torch.stack([table.weight.float().square().sum() for table in tables]).sum()
        penalty: Tensor = squares * self.shape.damping / self.shape.num_ratings
        return penalty


def parse_factors(content: Mapping[str, Any]) -> FactorShape:
    """What `FactorShape.dump` gave."""
    return FactorShape(**{name: value for name, value in content.items() if name != "type"})
