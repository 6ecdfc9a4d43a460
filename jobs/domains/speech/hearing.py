"""What a recogniser hears of recordings: log-mels, or the samples themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.domains.speech import augmentation, features
from jobs.domains.speech.features import Mels, log_mels, mask_of, waves_of
from jobs.domains.speech.pretrained import is_normalised
from jobs.domains.speech.sounds import Sound

if TYPE_CHECKING:
    from cluster.spec.train import Augment

FRAMES_PER_S = 100


class Hearing(Protocol):
    """The same for training, evaluation and serving."""

    def hear(self, rows: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Tensor]:
        """What the network takes of rows' `audio`, [batch, time, ...], and the lengths [batch]."""

    def vary(
        self, values: Tensor, lengths: Tensor, augment: Augment, generator: np.random.Generator
    ) -> Tensor:
        """It as training hears it: from other mouths, parts of it hidden."""

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Lengths in hundredths of a second."""

    def frames_per_step(self, network: Any) -> float:
        """Hundredths of a second between two characters."""

    def picture(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """A spectrogram [mels, frames] to look at."""


class CharacterHearing(Hearing, Protocol):
    """Of networks that write characters by CTC."""

    def logits(self, network: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, steps, characters] and the steps of each [batch]."""


class Spectrograms:
    """Log-mels, for our own networks."""

    def __init__(self, mels: Mels) -> None:
        self.mels = mels

    def hear(self, rows: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Tensor]:
        return log_mels(*waves_of(rows), self.mels)

    def vary(
        self, values: Tensor, lengths: Tensor, augment: Augment, generator: np.random.Generator
    ) -> Tensor:
        warped = augmentation.warp(values, augment.warp, self.mels, generator)
        return augmentation.hide(warped, lengths, augment.mask, generator)

    def logits(self, network: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = network(values, lengths)
        return found

    def num_frames(self, lengths: Tensor) -> Tensor:
        return lengths

    def frames_per_step(self, network: Any) -> float:
        return float(network.config.subsampling)

    def picture(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        return picture_of(samples, self.mels)


class Samples:
    """Samples, for networks that learned to hear by themselves (wav2vec 2.0 and its kin)."""

    def __init__(self, rate: int, is_normalised: bool) -> None:
        self.rate, self.is_normalised = rate, is_normalised

    def hear(self, rows: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Tensor]:
        waves, lengths = waves_of(rows)
        if not self.is_normalised:
            return waves, lengths
        mask = mask_of(lengths, waves.shape[1])
        count = lengths.clamp(min=1)[:, None]
        centred = (waves - waves.sum(1, keepdim=True) / count) * mask
        variance = (centred**2).sum(1, keepdim=True) / count
        return centred / (variance + 1e-7).sqrt(), lengths

    def vary(
        self, values: Tensor, lengths: Tensor, augment: Augment, generator: np.random.Generator
    ) -> Tensor:
        return augmentation.silence(values, lengths, augment.mask, generator)

    def logits(self, network: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        inner = getattr(network, "module", network)
        steps = inner._get_feat_extract_output_lengths(lengths)
        values = values.to(next(inner.parameters()).dtype)
        if _hears_padding(inner):
            alone = [
                network(one[None, :length]).logits[0]
                for one, length in zip(values, lengths.tolist(), strict=True)
            ]
            return nn.utils.rnn.pad_sequence(alone, batch_first=True), steps
        mask = mask_of(lengths, values.shape[1]).long()
        found: Tensor = network(values, attention_mask=mask).logits
        return found, steps

    def num_frames(self, lengths: Tensor) -> Tensor:
        return lengths * FRAMES_PER_S // self.rate

    def frames_per_step(self, network: Any) -> float:
        return float(np.prod(network.config.conv_stride)) * FRAMES_PER_S / self.rate

    def picture(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        return picture_of(samples, Mels.of(self.rate, 80, 0.025, 0.010))


def _hears_padding(network: Any) -> bool:
    """Whether recordings must be heard one by one for their padding not to count.

    Networks with a group norm (wav2vec2-base) take their statistics over all of the time. Training
    bears with it, as theirs did; so does evaluation at ZeRO stage 3, where all workers must call
    the network equally often.
    """
    is_divided = hasattr(next(network.parameters()), "ds_id")
    is_group = getattr(network.config, "feat_extract_norm", "layer") == "group"
    return bool(is_group and not network.training and not is_divided)


def open_hearing(processor: Path) -> CharacterHearing:
    """Spectrograms where the processor's folder holds their sizes, else samples."""
    if (processor / features.FILE).is_file():
        return Spectrograms(Mels.load(processor))
    return Samples(Sound.load(processor).rate, is_normalised(processor))


def picture_of(samples: NDArray[np.int16], mels: Mels) -> NDArray[np.float32]:
    """Log-mels [mels, frames] of one recording."""
    wave = torch.from_numpy(samples.astype(np.float32))[None] / 32768
    values, _ = log_mels(wave, torch.tensor([len(samples)]), mels)
    found: NDArray[np.float32] = values[0].T.numpy()
    return found
