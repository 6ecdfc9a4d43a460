"""Networks that predict the next item: states of a history against vectors of all items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional

from jobs.domains.recommendation.entropy import chunked_entropy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FULL_ITEMS = 1 << 16
"""Catalogues of more items are trained on samples of them."""
NUM_SAMPLES = 1 << 13
MOST_SCORES = 1 << 24
"""Scores in memory at once: 64 MiB in fp32."""
TOP = 10


@dataclass(frozen=True)
class Shape:
    """Sizes of a network, as its config.json holds them."""

    type: str
    num_items: int
    """Items that it scores, numbered from 1."""
    width: int
    context: int
    dropout: float
    layers: int = 0
    heads: int = 1
    num_trained: int = 0
    """Items that have a vector of their own, besides that of their content."""
    num_features: int = 0
    samples: int | None = None
    """Items that a step's loss compares with, besides the batch's own; None for all."""

    def dump(self) -> dict[str, Any]:
        return asdict(self)


class Ranking(NamedTuple):
    """What a network thinks of each record's items, the seen ones left out."""

    rank: Tensor
    """Items above the true one, int64 [batch]; all of them where it cannot be recommended."""
    nats: Tensor
    """Of the true item among those not seen, fp64 [batch]; NaN where it cannot be recommended."""
    top: Tensor
    """The best items by number, int64 [batch, TOP]; 0 where there are no more."""
    scores: Tensor
    """Theirs, fp32 [batch, TOP]."""


class NextItemNetwork(nn.Module):
    """What both networks share; a subclass gives `states` and `vectors`."""

    chances: Tensor

    def __init__(self, shape: Shape, counts: NDArray[np.int64]) -> None:
        """`counts`: how often training has each item, [items]."""
        super().__init__()
        self.shape = shape
        self.checkpoints = False
        shares = torch.from_numpy(counts[: shape.num_items]).double() + 1e-9
        self.register_buffer("chances", (shares / shares.sum()).float(), persistent=False)

    def states(self, items: Tensor) -> Tensor:
        """What follows each place of histories, [batch, time] to [batch, time, width]."""
        raise NotImplementedError

    def vectors(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(vectors [items, width], offsets [items]) of some items by number; of all in order."""
        raise NotImplementedError

    def forward(
        self, items: Tensor, targets: Tensor, lengths: Tensor, seen: Tensor | None = None
    ) -> Tensor | Ranking:
        """The loss of all targets; with `seen` [batch, many], the ranking at each row's end."""
        states = self.states(items)
        if seen is None:
            learned = (targets > 0) & (targets <= self.shape.num_items)
            return self._entropy(states[learned], targets[learned])
        rows = torch.arange(len(items), device=items.device)
        ends = (lengths - 1).clamp(min=0)
        return rank(states[rows, ends], *self.vectors(), targets[rows, ends], seen)

    def gradient_checkpointing_enable(self) -> None:
        """Compute activations again in the backward pass."""
        self.checkpoints = True

    def _entropy(self, states: Tensor, targets: Tensor) -> Tensor:
        if self.shape.samples is None:
            return chunked_entropy(states, *self.vectors(), targets - 1)
        return self._sampled_entropy(states, targets)

    def _sampled_entropy(self, states: Tensor, targets: Tensor) -> Tensor:
        """Over the batch's own targets and uniform samples, each by its chance to be among them.

        Logits lose the log of that chance, so that the mean is that of all items (Bengio and
        Senecal, 2008; Yi et al., RecSys 2019, for the batch's own).
        """
        num, many = self.shape.num_items, self.shape.samples or 0
        drawn = torch.randint(1, num + 1, (many,), device=targets.device)
        candidates, places = torch.unique(torch.cat([targets, drawn]), return_inverse=True)
        expected = many / num + len(targets) * self.chances[candidates - 1].double()
        vectors, offsets = self.vectors(candidates)
        offsets = offsets.float() - torch.log(-torch.expm1(-expected)).float()
        return chunked_entropy(states, vectors, offsets, places[: len(targets)])


class SASRec(NextItemNetwork):
    """Self-attention over the history (Kang and McAuley, arXiv 1808.09781).

    Cross entropy over all items in place of one sampled negative (as in arXiv 2309.07602), and
    norms before the layers.
    """

    def __init__(self, shape: Shape, counts: NDArray[np.int64]) -> None:
        super().__init__(shape, counts)
        self.items = nn.Embedding(shape.num_items + 1, shape.width, padding_idx=0)
        self.offsets = nn.Embedding(shape.num_items + 1, 1)
        self.places = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=0.02)
        nn.init.zeros_(self.offsets.weight)
        with torch.no_grad():
            self.items.weight[0] = 0

    def states(self, items: Tensor) -> Tensor:
        places = torch.arange(items.shape[1], device=items.device)
        states = self.items(items) * self.shape.width**0.5 + self.places(places)
        states = functional.dropout(states, self.shape.dropout, self.training)
        for block in self.blocks:
            states = _run(block, states, self.checkpoints and self.training)
        normed: Tensor = self.norm(states)
        return normed

    def vectors(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if items is None:
            return self.items.weight[1:], self.offsets.weight[1:, 0]
        return self.items(items), self.offsets(items)[:, 0]


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each around a shortcut."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.dropout = shape.heads, shape.dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.inner = nn.Linear(width, 3 * width)
        self.outer = nn.Linear(width, width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        """[batch, time, width]; nothing at a place depends on later ones."""
        batch, time, width = states.shape
        parts = self.inner(self.norms[0](states)).view(batch, time, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # [batch, heads, time, size] each
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=dropout
        )
        mixed = self.outer(mixed.transpose(1, 2).reshape(batch, time, width))
        states = states + functional.dropout(mixed, self.dropout, self.training)
        fed = self.narrow(functional.gelu(self.wide(self.norms[1](states))))
        return states + functional.dropout(fed, self.dropout, self.training)


def rank(
    states: Tensor, vectors: Tensor, offsets: Tensor, targets: Tensor, seen: Tensor
) -> Ranking:
    """Rank all items for each state, the seen ones left out.

    states [batch, width], vectors [items, width], offsets [items], targets [batch] and seen
    [batch, many] by number from 1; equal scores rank by number.
    """
    wide, shift = vectors.float(), offsets.float()
    size = max(1, MOST_SCORES // max(1, len(vectors)))
    parts = []
    for begin in range(0, len(states), size):
        place = slice(begin, begin + size)
        scores = torch.addmm(shift, states[place].float(), wide.T)
        parts.append(_rank(leave_out(scores, seen[place]), targets[place]))
    return Ranking(*(torch.cat(column) for column in zip(*parts, strict=True)))


def leave_out(scores: Tensor, seen: Tensor) -> Tensor:
    """Scores [batch, items] with those of the items `seen` [batch, many] as low as can be."""
    num = scores.shape[1]
    known = seen.clamp(0, num + 1)
    known = torch.where(known > num, 0, known)
    padded = functional.pad(scores, (1, 0))  # number 0 stands for none
    return padded.scatter(1, known, -torch.inf)[:, 1:]


def _rank(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    num = scores.shape[1]
    known = (targets > 0) & (targets <= num)
    places = torch.where(known, targets - 1, 0)[:, None]
    own = scores.gather(1, places)
    numbers = torch.arange(num, device=scores.device)[None]
    above = (scores > own) | ((scores == own) & (numbers < places))
    known &= own[:, 0] > -torch.inf
    ranks = torch.where(known, above.sum(1), num)
    nats = scores.double().logsumexp(1) - own[:, 0].double()
    top = scores.topk(min(TOP, num), 1)
    best = torch.where(top.values > -torch.inf, top.indices + 1, 0)
    filled = (0, TOP - best.shape[1])
    return (
        ranks,
        torch.where(known, nats, torch.nan),
        functional.pad(best, filled),
        functional.pad(top.values, filled, value=-torch.inf),
    )


def _run(block: nn.Module, states: Tensor, checkpoints: bool) -> Tensor:
    if not checkpoints:
        found: Tensor = block(states)
        return found
    again: Any = torch.utils.checkpoint.checkpoint(block, states, use_reentrant=False)
    return again  # type: ignore[no-any-return]


def shape_of(network: Any, num_items: int, num_trained: int, num_features: int) -> Shape:
    """Sizes from the spec's section `network` and the prepared data."""
    is_sasrec = network.type == "sasrec"
    num_scored = num_trained if is_sasrec else num_items
    samples = network.samples or (NUM_SAMPLES if num_scored > FULL_ITEMS else None)
    return Shape(
        type=network.type,
        num_items=num_scored,
        width=network.width,
        context=network.context,
        dropout=network.dropout,
        layers=network.layers if is_sasrec else 0,
        heads=network.heads if is_sasrec else 1,
        num_trained=num_trained,
        num_features=0 if is_sasrec else num_features,
        samples=samples if samples is None or samples < num_scored else None,
    )


def parse_shape(content: Mapping[str, Any]) -> Shape:
    """What `Shape.dump` gave."""
    return Shape(**content)
