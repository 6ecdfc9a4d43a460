"""Masked language modelling: BERT's way to learn from text without labels, and to be served.

Rows hold `tokens`, [rows, context - 1]; the network's first mark is put before them. What a
network has learned so is where classification starts from: `network: {pretrained: NAME@latest}`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from jobs.domains import Outcomes
from jobs.domains.text.encoders import build_masked, load_masked
from jobs.domains.text.generation import Generation
from jobs.domains.text.masked_answers import MaskedAnswers
from jobs.domains.text.masked_bert import BertForMaskedLM
from jobs.domains.text.masked_preparation import row_context
from jobs.domains.text.masking import hide
from jobs.domains.text.pretrained import kept_context
from jobs.domains.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


class MaskedLM(Generation):
    """The domain object of a masked language model; files and rows are those of generation."""

    def __init__(self, model: ModelSpec, processor: Path, pretrained: Path | None = None) -> None:
        super().__init__(model, processor, pretrained)
        self.context = row_context(self.context)

    def network(self) -> nn.Module:
        """BERT as the spec says, freshly initialised, or the pretrained network."""
        return build_masked(self.model, self.vocabulary, self.pretrained)

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """{"input_ids", "attention_mask", "labels"} int64 and "hidden" bool, [batch, context].

        Which tokens are hidden depends on the seed; without one on each row alone.
        """
        before, _ = self.vocabulary.frame
        texts = rows["tokens"].astype(np.int64)
        marks = np.broadcast_to(before.astype(np.int64), (len(texts), before.size))
        tokens = np.concatenate([marks, texts], 1)
        inside = np.ones(tokens.shape, bool)
        if "length" in rows:
            inside = np.arange(tokens.shape[1])[None] < rows["length"][:, None] + before.size
            tokens = np.where(inside, tokens, self.vocabulary.padding)
        seen, hidden = hide(tokens, self.vocabulary, seed)
        arrays = {"input_ids": seen, "attention_mask": inside.astype(np.int64), "labels": tokens}
        arrays["hidden"] = hidden & inside
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy in nats per hidden token, scalar, fp32."""
        return functional.cross_entropy(_logits(network, batch), batch["labels"][batch["hidden"]])

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """Of each row: nats, tokens and hits, over its hidden tokens."""
        labels = batch["labels"][batch["hidden"]]
        logits = _logits(network, batch)
        nats = functional.cross_entropy(logits, labels, reduction="none").double()
        hits = logits.argmax(1) == labels
        rows = batch["hidden"].nonzero()[:, 0].cpu().numpy()
        values = {"nats": nats, "tokens": torch.ones_like(hits), "hits": hits}
        return {
            name: np.bincount(rows, value.double().cpu().numpy(), len(batch["labels"]))
            for name, value in values.items()
        }

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """loss (nats per hidden token), perplexity and accuracy."""
        sums = {name: float(values.sum()) for name, values in outcomes.items()}
        if not sums["tokens"]:
            raise ValueError("there is no text to score")
        loss = sums["nats"] / sums["tokens"]
        accuracy = sums["hits"] / sums["tokens"]
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "accuracy": accuracy}

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """Each token by its own frequency, and the most frequent one as the guess."""
        seen, counts = np.ones(self.vocabulary.size, np.int64), np.zeros(self.vocabulary.size)
        for rows in train:
            seen += np.bincount(rows["tokens"].ravel(), minlength=seen.size)
        for rows in held_back:
            counts += np.bincount(rows["tokens"].ravel(), minlength=seen.size)
        counts[self.vocabulary.marks] = seen[self.vocabulary.marks] = 0
        shares = counts / max(1, counts.sum())
        loss = float(-shares @ np.log(np.maximum(seen, 1) / seen.sum()))
        name, accuracy = "token frequencies", float(shares[seen.argmax()])
        return {"name": name, "loss": loss, "perplexity": math.exp(loss), "accuracy": accuracy}

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return load_masked(str(folder))[0]


def _logits(network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """[hidden tokens, vocabulary] in fp32; `network` may be an engine around the network."""
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if isinstance(getattr(network, "module", network), BertForMaskedLM):
        chosen: Tensor = network(**given, hidden=batch["hidden"]).logits
        return chosen.float()
    logits: Tensor = network(**given).logits
    return logits[batch["hidden"]].float()


def open_domain(model: ModelSpec, processor: Path, pretrained: Path | None = None) -> MaskedLM:
    return MaskedLM(model, processor, pretrained)


def load(folder: Path, device: str = "cpu") -> MaskedAnswers:
    """A saved network for answering, in its saved precision."""
    network = load_masked(str(folder))[0].to(device).eval()
    return MaskedAnswers(network, Vocabulary(folder), kept_context(folder))
