"""Whisper (arXiv:2212.04356): spectrograms of half a minute to tokens, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSpeechSeq2Seq, WhisperFeatureExtractor, WhisperTokenizer

from jobs.domains.freezing import freeze
from jobs.domains.speech import augmentation
from jobs.domains.speech.features import Mels
from jobs.domains.speech.hearing import FRAMES_PER_S, picture_of
from jobs.domains.speech.pretrained import source_of
from jobs.domains.text.networks import from_pretrained

if TYPE_CHECKING:
    from cluster.spec import ModelSpec
    from cluster.spec.train import Augment

IGNORED = -100


class HalfMinutes:
    """What Whisper hears; see `hearing.Hearing`. Every recording is filled up to half a minute."""

    def __init__(self, processor: Path) -> None:
        self.extractor = WhisperFeatureExtractor.from_pretrained(processor)
        self.rate = int(self.extractor.sampling_rate)

    def hear(self, rows: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Tensor]:
        """[batch, mels, frames], and samples of each [batch]."""
        lengths = rows["audio_length"].astype(np.int64)
        waves = [
            own[:length].astype(np.float32) / 32768
            for own, length in zip(rows["audio"], lengths.tolist(), strict=True)
        ]
        found = self.extractor(waves, sampling_rate=self.rate, return_tensors="pt")
        values: Tensor = found["input_features"]
        return values, torch.from_numpy(lengths)

    def vary(
        self, values: Tensor, lengths: Tensor, augment: Augment, generator: np.random.Generator
    ) -> Tensor:
        frames = (lengths // self.extractor.hop_length).clamp(min=1)
        hidden = augmentation.hide(values.transpose(1, 2), frames, augment.mask, generator)
        return hidden.transpose(1, 2)

    def num_frames(self, lengths: Tensor) -> Tensor:
        return lengths * FRAMES_PER_S // self.rate

    def frames_per_step(self, network: Any) -> float:
        return 2.0  # the second convolution's stride

    def picture(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        return picture_of(samples, Mels.of(self.rate, 80, 0.025, 0.010))


class Tokens:
    """Texts to Whisper's tokens and back, after the marks that its tokenizer's files ask for."""

    def __init__(self, processor: Path) -> None:
        self.tokenizer = WhisperTokenizer.from_pretrained(processor)
        self.end = int(self.tokenizer.eos_token_id)
        self.prompt = list(self.tokenizer.prefix_tokens)

    def encode(self, text: str) -> list[int]:
        """What follows the prompt, with the end mark."""
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, self.end]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def build_whisper(model: ModelSpec, pretrained: Path | None) -> nn.Module:
    """The network of the spec in fp32, frozen as it says."""
    network: Any = model.network
    source = source_of(network, pretrained)
    assert source is not None
    # its own masks come from numpy's global generator, which no step seeds
    loaded, fresh = load_whisper(source, torch.float32, apply_spec_augment=False)
    freeze(loaded, network.freeze, fresh)
    return loaded


def load_whisper(
    source: str, dtype: torch.dtype | str = "auto", **config: Any
) -> tuple[nn.Module, set[str]]:
    """A network of a folder or a hub's name; ValueError where there are no weights."""
    return from_pretrained(AutoModelForSpeechSeq2Seq, source, dtype, **config)


def nats_of(
    network: Any, values: Tensor, targets: Tensor, sizes: Tensor, prompt: Sequence[int]
) -> Tensor:
    """Cross entropy per token of each record in nats, fp32 [batch].

    `targets` [batch, longest] holds the tokens after the prompt, of each as many as `sizes`.
    """
    inner = getattr(network, "module", network)
    most = inner.config.max_target_positions - len(prompt) + 1
    targets, sizes = targets[:, :most], sizes.clamp(max=most)
    begin = torch.tensor(prompt, device=targets.device).expand(len(targets), -1)
    given = torch.cat([begin, targets[:, :-1]], 1)
    values = values.to(next(inner.parameters()).dtype)
    logits = network(input_features=values, decoder_input_ids=given, use_cache=False).logits
    told = logits[:, len(prompt) - 1 :].float()
    known = torch.arange(targets.shape[1], device=sizes.device)[None] < sizes[:, None]
    wanted = targets.masked_fill(~known, IGNORED)
    nats = functional.cross_entropy(told.transpose(1, 2), wanted, reduction="none")
    return nats.sum(1) / sizes.clamp(min=1)


@torch.no_grad()
def transcribe(network: Any, values: Tensor, tokens: Tokens) -> list[str]:
    """The likeliest token after each other until the end mark, for recordings [batch, ...].

    At ZeRO stage 3, where all workers must call the network equally often, always to the bound.
    """
    inner = getattr(network, "module", network)
    is_divided = hasattr(next(inner.parameters()), "ds_id")
    most = inner.config.max_target_positions - len(tokens.prompt)
    given = torch.tensor(tokens.prompt, device=values.device).expand(len(values), -1)
    heard: dict[str, Any] = {"input_features": values.to(next(inner.parameters()).dtype)}
    has_ended = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    found: list[Tensor] = []
    for _ in range(most):
        step = network(**heard, decoder_input_ids=given, use_cache=True)
        best = step.logits[:, -1].argmax(1).masked_fill(has_ended, tokens.end)
        found.append(best)
        has_ended = has_ended | (best == tokens.end)
        if bool(has_ended.all()) and not is_divided:
            break
        given = best[:, None]
        heard = {
            "encoder_outputs": (step.encoder_last_hidden_state,),
            "past_key_values": step.past_key_values,
        }
    return [tokens.decode(row) for row in torch.stack(found, 1).tolist()]
