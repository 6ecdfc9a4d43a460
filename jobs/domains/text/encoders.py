"""Networks that read whole texts: built from the spec, loaded from folders, with a head on top."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from jobs.domains.freezing import freeze
from jobs.domains.text.lstm import MODEL_TYPE, LSTMConfig, LSTMForSequenceClassification
from jobs.domains.text.masked_bert import BertForMaskedLM
from jobs.domains.text.networks import from_pretrained
from jobs.domains.text.ngrams import load_ngrams
from jobs.domains.text.pretrained import config_of, source_of
from jobs.domains.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


def build_classifier(
    model: ModelSpec,
    vocabulary: Vocabulary,
    labels: Sequence[str],
    pretrained: Path | None,
    processor: Path,
) -> nn.Module:
    """BERT or an LSTM in fp32 as the spec says, or a pretrained network.

    The LSTM reads the n-grams that preparation left in the folder `processor`. A pretrained one's
    head is a fresh one unless it has as many classes; what the spec freezes is frozen.
    """
    network: Any = model.network
    source = source_of(network, pretrained)
    names: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    if source is not None:
        loaded, fresh = load_classifier(source, torch.float32, num_labels=len(labels), **names)
        _fit_marks(loaded, vocabulary)
        freeze(loaded, network.freeze, fresh)
        return loaded
    if network.type == "bert":
        built: nn.Module = BertForSequenceClassification(_bert(network, vocabulary, **names))
        return built
    ngrams = load_ngrams(processor)
    config = LSTMConfig(
        vocab_size=vocabulary.size,
        pad_token_id=vocabulary.padding,
        width=network.width,
        num_hidden_layers=network.layers,
        dropout=network.dropout,
        token_dropout=network.token_dropout,
        bidirectional=network.bidirectional,
        max_position_embeddings=network.context,
        num_ngrams=len(ngrams["known"]),
        num_documents=int(ngrams["num_documents"]),
        longest_token=ngrams["spelling"].shape[1],
        **names,
    )
    recurrent = LSTMForSequenceClassification(config)
    recurrent.bag.load(ngrams)
    return recurrent


def build_masked(model: ModelSpec, vocabulary: Vocabulary, pretrained: Path | None) -> nn.Module:
    """BERT with a head that guesses hidden tokens, in fp32, or a pretrained network."""
    network: Any = model.network
    source = source_of(network, pretrained)
    if source is not None:
        loaded, fresh = load_masked(source, torch.float32)
        freeze(loaded, network.freeze, fresh)
        return loaded
    built: nn.Module = BertForMaskedLM(_bert(network, vocabulary))
    return built


def load_classifier(
    source: str, dtype: torch.dtype | str = "auto", **config: Any
) -> tuple[nn.Module, Collection[str]]:
    """A classifier of a folder or hub name, and the names of parameters that it did not hold.

    Raises ValueError where there are no weights or only pickled ones.
    """
    is_ours = config_of(source).get("model_type") == MODEL_TYPE
    kind = LSTMForSequenceClassification if is_ours else AutoModelForSequenceClassification
    return from_pretrained(kind, source, dtype, ignore_mismatched_sizes=True, **config)


def load_masked(
    source: str, dtype: torch.dtype | str = "auto"
) -> tuple[nn.Module, Collection[str]]:
    """A masked language model, as `load_classifier` gives a classifier."""
    is_bert = config_of(source).get("model_type") == "bert"
    kind = BertForMaskedLM if is_bert else AutoModelForMaskedLM
    return from_pretrained(kind, source, dtype)


def _bert(network: Any, vocabulary: Vocabulary, **settings: Any) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary.size,
        pad_token_id=vocabulary.padding,
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        hidden_size=network.width,
        intermediate_size=4 * network.width,
        max_position_embeddings=network.context,
        hidden_dropout_prob=network.dropout,
        attention_probs_dropout_prob=network.dropout,
        # 0.02 at BERT's own width of 768; a narrower network needs larger weights to pass as much.
        initializer_range=0.02 * math.sqrt(768 / network.width),
        **settings,
    )


def _fit_marks(network: nn.Module, vocabulary: Vocabulary) -> None:
    """Decoders that classify look for the padding; those trained without one are told."""
    config: Any = network.config
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = vocabulary.padding
