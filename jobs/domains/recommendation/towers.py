"""Two towers: a history and an item become vectors of one space; items by their content too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.domains.recommendation.networks import NextItemNetwork, Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jobs.domains.recommendation.catalogue import Catalogue

MOST_TOKENS = 16
"""Of a title; the rest of a longer one is left out."""
MOST_GENRES = 8
DECAYS = (0.5, 0.9)
"""How much less each older item counts, in two of the means over a history."""
UNNAMED = 0.2
"""Share of items that are known by their content alone in a step, so that it learns to do."""


class TwoTower(NextItemNetwork):
    """Item tower: own vector and mean of its content's. User tower: means over the history.

    After Covington et al. (RecSys 2016) and Yi et al. (RecSys 2019).
    """

    features: Tensor

    def __init__(
        self, shape: Shape, counts: NDArray[np.int64], features: NDArray[np.int32]
    ) -> None:
        """`features`: the numbers of each item's content, 0 for none, [items, many]."""
        super().__init__(shape, counts)
        width = shape.width
        self.register_buffer("features", torch.from_numpy(features), persistent=False)
        self.names = nn.Embedding(shape.num_trained + 1, width, padding_idx=0)
        self.offsets = nn.Embedding(shape.num_trained + 1, 1, padding_idx=0)
        self.content = nn.Embedding(shape.num_features + 1, width, padding_idx=0)
        self.item_tower = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.item_norm = nn.LayerNorm(width)
        many = (2 + len(DECAYS)) * width
        self.user_tower = nn.Sequential(
            nn.Linear(many, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.user_norm = nn.LayerNorm(width)
        for table in (self.names, self.content):
            nn.init.normal_(table.weight, std=width**-0.5)
            with torch.no_grad():
                table.weight[0] = 0
        nn.init.zeros_(self.offsets.weight)

    def states(self, items: Tensor) -> Tensor:
        known, places = torch.unique(items, return_inverse=True)
        vectors = self._towers(known)[0] * (known > 0)[:, None]
        taken = vectors[places]  # [batch, time, width]
        time = items.shape[1]
        steps = torch.arange(time, device=items.device)
        ages = (steps[:, None] - steps[None]).to(taken.dtype)
        means = [taken]
        for decay in (*DECAYS, 1.0):
            weights = torch.where(ages >= 0, decay ** ages.clamp(min=0), 0)
            means.append((weights / weights.sum(1, keepdim=True)) @ taken)
        mixed = functional.dropout(torch.cat(means, 2), self.shape.dropout, self.training)
        states: Tensor = self.user_norm(taken + self.user_tower(mixed))
        return states

    def vectors(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if items is None:
            items = torch.arange(1, self.shape.num_items + 1, device=self.features.device)
        return self._towers(items)

    def _towers(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [many, width] and offsets [many] of items by number; of nothing for 0."""
        named = torch.where(items <= self.shape.num_trained, items, 0)
        own = functional.dropout(self.names(named), self.shape.dropout, self.training)
        if self.training:
            own = own * (torch.rand(len(items), 1, device=items.device) >= UNNAMED)
        features = self.features[(items - 1).clamp(min=0)]
        told = (features > 0).sum(1, keepdim=True).clamp(min=1).to(own.dtype)
        content = self.content(features).sum(1) / told
        mixed = own + functional.dropout(content, self.shape.dropout, self.training)
        vectors = self.item_norm(mixed + self.item_tower(mixed)) * self.shape.width**-0.5
        return vectors, self.offsets(named)[:, 0]


def features_of(catalogue: Catalogue) -> tuple[NDArray[np.int32], int]:
    """(numbers of each item's title tokens and genres [items, many], how many there are)."""
    offsets, tokens = catalogue.tokens
    num_tokens = int(tokens.max(initial=-1)) + 1
    genres = sorted({genre for own in catalogue.genres for genre in own})
    numbers = {genre: num_tokens + 1 + place for place, genre in enumerate(genres)}
    found = np.zeros((len(catalogue.items), MOST_TOKENS + MOST_GENRES), np.int32)
    for place, own in enumerate(catalogue.genres):
        title = tokens[offsets[place] : offsets[place + 1]][:MOST_TOKENS] + 1
        found[place, : len(title)] = title
        known: Any = [numbers[genre] for genre in own[:MOST_GENRES]]
        found[place, MOST_TOKENS : MOST_TOKENS + len(known)] = known
    return found, num_tokens + len(genres)
