"""Recognisers and voices from the spec and from folders."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModelForCTC

from jobs.domains.freezing import freeze
from jobs.domains.speech.characters import Characters
from jobs.domains.speech.ctc import MODEL_TYPE, CTCConfig, CTCForRecognition
from jobs.domains.speech.features import Mels
from jobs.domains.speech.hearing import Hearing, Spectrograms
from jobs.domains.speech.pretrained import config_of, source_of
from jobs.domains.speech.scripts import Scripts
from jobs.domains.speech.tacotron import Tacotron2Config, Tacotron2ForSynthesis
from jobs.domains.text.networks import from_pretrained

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


def build_recogniser(
    model: ModelSpec, characters: Characters, hearing: Hearing, pretrained: Path | None
) -> nn.Module:
    """The network of the spec in fp32; of a pretrained one the head is a fresh one where it has
    other characters, and what the spec freezes is frozen."""
    network: Any = model.network
    source = source_of(network, pretrained)
    if source is not None:
        loaded, fresh = load_recogniser(
            source,
            torch.float32,
            vocab_size=characters.size,
            pad_token_id=characters.nothing,
            # its own masks come from numpy's global generator, which no step seeds, and refuse
            # short recordings; ours are made in collate
            apply_spec_augment=False,
            layerdrop=0.0,
        )
        freeze(loaded, network.freeze, fresh)
        return loaded
    assert isinstance(hearing, Spectrograms)
    built: nn.Module = CTCForRecognition(
        CTCConfig(
            vocab_size=characters.size,
            num_mels=hearing.mels.num_mels,
            width=network.width,
            num_hidden_layers=network.layers,
            num_attention_heads=network.heads,
            subsampling=network.subsampling,
            dropout=network.dropout,
        )
    )
    return built


def load_recogniser(
    source: str, dtype: torch.dtype | str = "auto", **config: Any
) -> tuple[nn.Module, Collection[str]]:
    """A network of a folder or a hub's name, and the names of parameters that it did not hold.

    ValueError where there are no weights or only pickled ones.
    """
    if config_of(source).get("model_type") == MODEL_TYPE:
        return from_pretrained(CTCForRecognition, source, dtype)
    return from_pretrained(AutoModelForCTC, source, dtype, ignore_mismatched_sizes=True, **config)


def build_voice(network: Any, scripts: Scripts, mels: Mels) -> nn.Module:
    """Tacotron 2 of the spec in fp32."""
    built: nn.Module = Tacotron2ForSynthesis(
        Tacotron2Config(
            vocab_size=scripts.characters.size,
            num_speakers=max(1, len(scripts.speakers)),
            num_mels=mels.num_mels,
            width=network.width,
            decoder=network.decoder,
            prenet=network.prenet,
            attention=network.attention,
            reduction=network.reduction,
            dropout=network.dropout,
        )
    )
    return built


def load_voice(source: str) -> nn.Module:
    """A voice of a folder, in its saved precision; ValueError where there are no weights."""
    return from_pretrained(Tacotron2ForSynthesis, source)[0]
