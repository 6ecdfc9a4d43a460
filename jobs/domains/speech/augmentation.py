"""Recordings varied in training: speed, noise, hidden bands; the same for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.domains.speech.features import Mels, places_of

LOUDEST_NOISE_DB, SOFTEST_NOISE_DB = 8.0, 40.0
"""Noise is softer than the recording by so much."""
BANDS, SPANS = 2, 2
"""Rectangles that are hidden in each spectrogram at most (arXiv:1904.08779)."""


def vary_waves(
    rows: dict[str, NDArray[Any]], speed: float, noise: float, generator: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Rows of `audio` played faster or slower by up to the share `speed` (Ko et
    al., 2015, "Audio augmentation for speech recognition"), the share `noise` with noise."""
    varied = [
        _noisy(_faster(row[:length], speed, generator), noise, generator)
        for row, length in zip(rows["audio"], rows["audio_length"].tolist(), strict=True)
    ]
    lengths = np.asarray([len(row) for row in varied], np.int64)
    padded = np.zeros((len(varied), int(lengths.max(initial=0))), np.int16)
    for row, into in zip(varied, padded, strict=True):
        into[: len(row)] = row
    return {**rows, "audio": padded, "audio_length": lengths}


def warp(values: Tensor, share: float, mels: Mels, generator: np.random.Generator) -> Tensor:
    """Log-mels [batch, frames, mels] whose frequencies are each record's own multiple of what they
    were, by up to `share`: the resonances of longer and shorter vocal tracts, at the same pitch and
    speed (Jaitly and Hinton, 2013, "Vocal tract length perturbation")."""
    factors = 1 + share * generator.uniform(-1, 1, len(values))
    places = torch.from_numpy(places_of(mels, factors)).to(values.device)
    low = places.floor().long().clamp(max=mels.num_mels - 2)
    beyond = (places - low).to(values.dtype)[:, None]
    below, above = (values.gather(2, (low + i)[:, None].expand_as(values)) for i in range(2))
    return below + (above - below) * beyond


def hide(values: Tensor, frames: Tensor, share: float, generator: np.random.Generator) -> Tensor:
    """Hide bands and spans of log-mels [batch, frames, mels], each up to `share` of its side.

    What is hidden becomes the recording's mean (SpecAugment, Park et al., 2019).
    """
    values = values.clone()
    for one, length in zip(values, frames.tolist(), strict=True):
        mean = one[:length].mean()
        for count, axis, size in ((BANDS, 1, one.shape[1]), (SPANS, 0, length)):
            for _ in range(generator.integers(count + 1)):
                width = int(generator.integers(int(share * size) + 1))
                start = int(generator.integers(size - width + 1))
                part = one[:length].narrow(axis, start, width)
                part.fill_(mean)
    return values


def silence(
    values: Tensor, lengths: Tensor, share: float, generator: np.random.Generator
) -> Tensor:
    """Hide spans of samples [batch, time], each up to `share` of the recording."""
    values = values.clone()
    for one, length in zip(values, lengths.tolist(), strict=True):
        for _ in range(generator.integers(SPANS + 1)):
            width = int(generator.integers(int(share * length) + 1))
            start = int(generator.integers(length - width + 1))
            one[start : start + width] = 0
    return values


def _faster(
    samples: NDArray[np.int16], speed: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Pitch moves with the speed, as it would on a tape: other voices."""
    factor = 1 + speed * generator.uniform(-1, 1)
    size = max(1, round(len(samples) / factor))
    return np.asarray(np.interp(np.arange(size) * factor, np.arange(len(samples)), samples))


def _noisy(
    samples: NDArray[np.float64], share: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    below, drawn = generator.uniform(LOUDEST_NOISE_DB, SOFTEST_NOISE_DB), generator.uniform()
    noise = generator.normal(size=len(samples))
    if drawn < share:
        loud = np.sqrt(np.mean(samples**2))
        samples = samples + noise * loud * 10 ** (-below / 20)
    return np.asarray(np.clip(np.rint(samples), -32768, 32767))
