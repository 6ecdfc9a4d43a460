"""Spectrograms to sound. Griffin-Lim needs no training; a trained vocoder may take its place."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from jobs.domains.speech.features import LOG_FLOOR, Mels, filters

ROUNDS, MOMENTUM = 60, 0.99
FITS = 30
SHARPNESS = 1.2
"""Magnitudes are raised to this power, as in Tacotron (arXiv:1703.10135, section 3.4)."""
PEAK = 0.9
SEED = 1


class Vocoder(Protocol):
    """From log-mels to samples."""

    def speak(self, mels: Tensor) -> Tensor:
        """Log-mels [frames, mels] to samples of -1 to 1, [time]."""


class GriffinLim:
    """Phases that fit the magnitudes, found in rounds (Griffin and Lim, 1984; with momentum,
    Perraudin et al., 2013). The same sound for the same spectrogram."""

    def __init__(self, mels: Mels) -> None:
        self.mels = mels

    def speak(self, mels: Tensor) -> Tensor:
        """Log-mels [frames, mels] to samples of -1 to 1, [time]."""
        if len(mels) < 2:
            return torch.zeros(self.mels.hop)
        magnitudes = self.magnitudes(mels.float().cpu()) ** SHARPNESS
        generator = torch.Generator().manual_seed(SEED)
        angles = torch.polar(
            torch.ones_like(magnitudes),
            2 * torch.pi * torch.rand(magnitudes.shape, generator=generator),
        )
        before = torch.zeros_like(angles)
        for _ in range(ROUNDS):
            rebuilt = self._spectrum(self._wave(magnitudes * angles))
            moved = rebuilt + MOMENTUM * (rebuilt - before)
            angles = moved / moved.abs().clamp(min=1e-12)
            before = rebuilt
        wave = self._wave(magnitudes * angles)
        loudest: Tensor = wave.abs().max().clamp(min=1e-3)
        return wave / loudest * PEAK

    def magnitudes(self, mels: Tensor) -> Tensor:
        """The lines [num_fft / 2 + 1, frames] whose mels are nearest: none negative, found by
        steps along the gradient from the pseudo-inverse."""
        basis = torch.from_numpy(filters(self.mels))
        wanted = mels.clamp(min=LOG_FLOOR).exp().T
        found: Tensor = (torch.linalg.pinv(basis) @ wanted).clamp(min=0)
        rate = 1 / torch.linalg.matrix_norm(basis, 2) ** 2
        for _ in range(FITS):
            found = (found - rate * basis.T @ (basis @ found - wanted)).clamp(min=0)
        return found

    def _wave(self, spectrum: Tensor) -> Tensor:
        window = torch.hann_window(self.mels.window)
        size = self.mels.hop * (spectrum.shape[1] - 1)
        return torch.istft(
            spectrum, self.mels.num_fft, self.mels.hop, self.mels.window, window, length=size
        )

    def _spectrum(self, wave: Tensor) -> Tensor:
        window = torch.hann_window(self.mels.window)
        return torch.stft(
            wave,
            self.mels.num_fft,
            self.mels.hop,
            self.mels.window,
            window,
            pad_mode="constant",
            return_complex=True,
        )
