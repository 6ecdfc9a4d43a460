"""A text classifier of long short-term memory (Hochreiter and Schmidhuber, 1997), small and quick.

States of all tokens are pooled by mean and by maximum, together with the tokens' own vectors.
Beside it stands a weighted bag of n-grams (`jobs.domains.text.ngrams`), which is what little data
is enough for. Each learns by itself and their weighted mean answers: trained on their sum, the
quicker one leaves the other nothing to learn. It is a network of transformers' kind, so that its
folder is one too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from jobs.domains.text.ngrams import LONGEST, Bag

MODEL_TYPE = "slipway-lstm"
LOWEST = -1e4  # below every state, also in 16 bits
SHARES = (0.25, 0.75)
"""Of the recurrent part and of the bag in the answer: the former is the surer of itself."""


class LSTMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of the network, as its config.json holds them."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        vocab_size: int = 1,
        width: int = 256,
        num_hidden_layers: int = 2,
        dropout: float = 0.1,
        token_dropout: float = 0.0,
        bidirectional: bool = True,
        max_position_embeddings: int = 256,
        num_ngrams: int = 1,
        num_documents: int = 0,
        longest_token: int = LONGEST,
        initializer_range: float = 0.05,
        **other: Any,
    ) -> None:
        self.vocab_size, self.width, self.num_hidden_layers = vocab_size, width, num_hidden_layers
        self.dropout, self.token_dropout = dropout, token_dropout
        self.bidirectional = bidirectional
        self.max_position_embeddings = max_position_embeddings
        self.num_ngrams, self.num_documents = num_ngrams, num_documents
        self.longest_token = longest_token
        self.initializer_range = initializer_range
        super().__init__(**other)

    @property
    def hidden_size(self) -> int:
        """Size of the states of both directions together."""
        return int(self.width) * (2 if self.bidirectional else 1)


@dataclass
class Opinions(SequenceClassifierOutput):  # type: ignore[misc]
    """What a classifier of several parts answers."""

    parts: Tensor | None = None
    """Logits of each part, [parts, batch, classes], of which `logits` are the weighted mean."""


class Direction(nn.Module):
    """One layer in one direction over sequences padded at their end."""

    def __init__(self, inner: int, width: int, backward: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inner, width, batch_first=True)
        self.backward = backward

    def forward(self, states: Tensor, mirror: Tensor) -> Tensor:
        """[batch, time, inner] to [batch, time, width].

        `mirror` [batch, time, 1] is where each token stands when its text is read backwards. As
        padding stays at the end either way, no state has seen it.
        """
        if not self.backward:
            return self.lstm(states)[0]  # type: ignore[no-any-return]
        turned = states.gather(1, mirror.expand(-1, -1, states.shape[2]))
        read: Tensor = self.lstm(turned)[0]
        return read.gather(1, mirror.expand(-1, -1, read.shape[2]))


class LSTMEncoder(nn.Module):
    """From tokens to one vector a text."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        directions = (False, True) if config.bidirectional else (False,)
        sizes = [config.width] + [config.hidden_size] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(
            nn.ModuleList(Direction(size, config.width, way) for way in directions)
            for size in sizes
        )
        self.dropout, self.token_dropout = config.dropout, config.token_dropout

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """[batch, time] to [batch, features]; `mask` is 1 for tokens, 0 for padding at the end."""
        words = self._drop(self._hide(self.embedding(input_ids)))
        mirror = _mirror(mask)[..., None]
        states = words
        for layer in self.layers:
            read = [direction(states, mirror) for direction in layer]  # type: ignore[attr-defined]
            states = self._drop(torch.cat(read, 2))
        return torch.cat([*_pooled(states, mask), *_pooled(words, mask)], 1)

    def _hide(self, words: Tensor) -> Tensor:
        """Whole tokens are left out in training (Gal and Ghahramani, 2016, arXiv 1512.05287)."""
        if not self.training or not self.token_dropout:
            return words
        stays = torch.rand(words.shape[:2], device=words.device) >= self.token_dropout
        seen: Tensor = words * stays[..., None]
        return seen

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training)


class LSTMForSequenceClassification(PreTrainedModel):  # type: ignore[misc]
    """The encoder with a linear head and the bag, called as transformers' classifiers are."""

    config_class = LSTMConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.encoder = LSTMEncoder(config)
        features = 2 * (config.hidden_size + config.width)
        self.norm = nn.LayerNorm(features)
        self.classifier = nn.Linear(features, config.num_labels)
        self.bag = Bag(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.bag.weights:
            init.zeros_(module.weight)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> Opinions:
        """Logits [batch, classes] of tokens [batch, time], padded at the end."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        features = self.norm(self.encoder(input_ids, mask))
        features = functional.dropout(features, self.config.dropout, self.training)
        parts = torch.stack([self.classifier(features).float(), self.bag(input_ids, mask)])
        logits = SHARES[0] * parts[0] + SHARES[1] * parts[1]
        return Opinions(logits=logits, parts=parts)


def _mirror(mask: Tensor) -> Tensor:
    """Where each token stands in its text read backwards, [batch, time]; padding stays."""
    places = torch.arange(mask.shape[1], device=mask.device)[None]
    return torch.where(mask > 0, mask.sum(1, keepdim=True) - 1 - places, places)


def _pooled(states: Tensor, mask: Tensor) -> Iterator[Tensor]:
    """Mean and maximum over the tokens of each text, [batch, width] each; 0 for no token."""
    counted = mask[..., None].to(states.dtype)
    num = counted.sum(1)
    yield (states * counted).sum(1) / num.clamp(min=1)
    yield states.masked_fill(counted == 0, LOWEST).amax(1) * (num > 0)
