"""Text generation: a causal language model, for training and for serving.

Rows hold one column `tokens`, [rows, context + 1]: the network sees all but the last token of a
row and predicts all but the first. Consecutive rows share one token, so that each token of a
split but its first is predicted exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from jobs.domains import Columns, Outcomes
from jobs.domains.details import Detail, Shown, Table
from jobs.domains.files import find_sources
from jobs.domains.text.answering import GenerationAnswers
from jobs.domains.text.documents import SUFFIXES
from jobs.domains.text.networks import build, load_network, save_network
from jobs.domains.text.packing import Packer, pack_all
from jobs.domains.text.preparation import layout_of, tokens_of
from jobs.domains.text.pretrained import context_of
from jobs.domains.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from cluster.spec import ModelSpec

IGNORED = -100  # torch's label that is not predicted


class Generation:
    """The domain object of a causal language model."""

    unit = "tokens"
    labels = None
    batched_by = None

    def __init__(self, model: ModelSpec, processor: Path, pretrained: Path | None = None) -> None:
        self.model = model
        self.processor = processor
        self.pretrained = pretrained
        self.vocabulary = Vocabulary(processor)
        self.context = context_of(model.network, pretrained)
        """Tokens of a row but one."""

    def network(self) -> nn.Module:
        """GPT-2 or Llama as the spec says, freshly initialised, or the pretrained network."""
        return build(self.model.network, self.vocabulary, self.pretrained)

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """{"input_ids", "labels"}, int64 [batch, context]; labels are shifted already.

        Rows may carry a column `length` [batch] (tokens that count, the rest is padding).
        """
        tokens = torch.from_numpy(rows["tokens"].astype(np.int64))
        labels = tokens[:, 1:].contiguous()
        if "length" in rows:
            lengths = torch.from_numpy(rows["length"].astype(np.int64))
            outside = torch.arange(1, tokens.shape[1])[None, :] >= lengths[:, None]
            labels = labels.masked_fill(outside, IGNORED)
        return {"input_ids": tokens[:, :-1].contiguous(), "labels": labels}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy in nats per predicted token, scalar, fp32."""
        logits = _logits(network, batch)
        return functional.cross_entropy(logits, batch["labels"].flatten(), ignore_index=IGNORED)

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """Of each row: nats and tokens, and nats, characters and bytes of tokens that are text."""
        labels = batch["labels"]
        nats = functional.cross_entropy(
            _logits(network, batch), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        nats = nats.double().view(labels.shape)
        counted = labels != IGNORED
        characters, sizes = (table.to(labels.device) for table in self._extents)
        known = labels.clamp(min=0)
        is_text = counted & (sizes[known] > 0)
        sums = {
            "nats": nats,
            "tokens": counted,
            "text_nats": nats * is_text,
            "characters": characters[known] * is_text,
            "bytes": sizes[known] * is_text,
        }
        return {name: values.sum(1).cpu().numpy() for name, values in sums.items()}

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """loss (nats per token), perplexity, nats per character and bits per byte of the text."""
        sums = {name: float(values.sum()) for name, values in outcomes.items()}
        if not sums.get("tokens"):
            raise ValueError("there is no text to score: it holds fewer than two tokens")
        loss = sums["nats"] / sums["tokens"]
        metrics = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        if sums["characters"]:
            metrics["nats_per_character"] = sums["text_nats"] / sums["characters"]
        if sums["bytes"]:
            metrics["bits_per_byte"] = sums["text_nats"] / sums["bytes"] / math.log(2)
        return metrics

    def details(self, outcomes: Outcomes) -> list[Detail]:
        """How the loss spreads over the rows, in nats per token."""
        losses = outcomes["nats"] / np.maximum(outcomes["tokens"], 1)
        shares = (5, 25, 50, 75, 95)
        rows = [(f"{share} %", float(np.percentile(losses, share))) for share in shares]
        return [Table("Loss of the rows, in nats per token", ["share of rows below", "loss"], rows)]

    def worst(self, outcomes: Outcomes, count: int) -> NDArray[np.int64]:
        """The rows that were predicted worst."""
        losses = outcomes["nats"] / np.maximum(outcomes["tokens"], 1)
        return np.argsort(-losses, kind="stable")[:count]

    def show(self, rows: Columns, outcomes: Outcomes) -> list[Shown]:
        """The text of rows, with their loss."""
        losses = outcomes["nats"] / np.maximum(outcomes["tokens"], 1)
        texts = [self.vocabulary.decode(tokens.tolist()) for tokens in rows["tokens"]]
        return [
            Shown(text, note=f"{loss:.2f} nats per token")
            for text, loss in zip(texts, losses, strict=True)
        ]

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """Each token by its own frequency, with one added (a unigram model)."""
        seen = np.ones(self.vocabulary.size, np.int64)
        for rows in train:
            seen += np.bincount(rows["tokens"][:, 1:].ravel(), minlength=seen.size)
        nats = -np.log(seen / seen.sum())
        counts = np.zeros_like(seen)
        for rows in held_back:
            counts += np.bincount(rows["tokens"][:, 1:].ravel(), minlength=seen.size)
        loss = float(nats @ counts / max(1, counts.sum()))
        return {"name": "token frequencies", "loss": loss, "perplexity": math.exp(loss)}

    def count(self, batch: Mapping[str, Tensor]) -> int:
        return batch["input_ids"].numel()

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Any files as batches of rows; the last row of all is filled up, its `length` says so."""
        layout = layout_of(self.model.data)
        context = self.context
        packer = Packer(context, self.vocabulary.size)
        tokens = tokens_of(find_sources(paths, SUFFIXES), layout, self.vocabulary)
        for batch in pack_all(tokens, packer):
            rows = batch.column(0).flatten().to_numpy().reshape(-1, context + 1)
            for start in range(0, len(rows), rows_per_batch):
                part = rows[start : start + rows_per_batch]
                yield {"tokens": part, "length": np.full(len(part), context + 1)}
        rest = packer.rest("")
        if rest.size > 1:
            padding = np.full(context + 1 - rest.size, self.vocabulary.end, packer.dtype)
            row = np.concatenate([rest, padding])[None]
            yield {"tokens": row, "length": np.asarray([rest.size])}

    def flops(self, network: nn.Module) -> float:
        """6 per parameter and 12 per layer, width and context (Chowdhery et al., 2022, app. B)."""
        config: Any = network.config
        attention = 12 * config.num_hidden_layers * config.hidden_size
        parameters = sum(getattr(p, "ds_numel", p.numel()) for p in network.parameters())
        return float(6 * parameters + attention * self.context)

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return load_network(str(folder))

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """A folder for `AutoModelForCausalLM` and `AutoTokenizer` (and for `load`)."""
        save_network(network, state, self.processor, folder)

    @cached_property
    def _extents(self) -> tuple[Tensor, Tensor]:
        characters, sizes = self.vocabulary.extents
        return torch.from_numpy(characters).long(), torch.from_numpy(sizes).long()


def _logits(network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """[batch * context, vocabulary] in fp32, which the softmax needs."""
    logits: Tensor = network(input_ids=batch["input_ids"], use_cache=False).logits
    return logits.flatten(0, 1).float()


def open_domain(model: ModelSpec, processor: Path, pretrained: Path | None = None) -> Generation:
    return Generation(model, processor, pretrained)


def load(folder: Path, device: str = "cpu") -> GenerationAnswers:
    """A saved network for answering, in its saved precision."""
    return GenerationAnswers(load_network(str(folder)).to(device).eval(), Vocabulary(folder))
