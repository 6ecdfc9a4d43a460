import numpy as np
import torch

from jobs.domains.speech.augmentation import warp
from jobs.domains.speech.features import Mels, log_mels

MELS = Mels.of(8000, 40, 0.025, 0.010)


def tones(hertz: float, many: int) -> torch.Tensor:
    """Log-mels of a tone, many times over."""
    wave = torch.sin(torch.arange(4000) * 2 * torch.pi * hertz / 8000).expand(many, -1)
    return log_mels(wave, torch.full((many,), 4000), MELS)[0]


def peaks(values: torch.Tensor) -> list[int]:
    return [int(band) for band in values[:, 10].argmax(1)]


def test_a_tone_moves_up_and_down_with_its_factor() -> None:
    values = tones(1000, 16)
    band = peaks(values)[0]
    factors = 1 + 0.3 * np.random.default_rng(5).uniform(-1, 1, 16)
    moved = peaks(warp(values, 0.3, MELS, np.random.default_rng(5)))
    expected = [peaks(tones(1000 / factor, 1))[0] for factor in factors]
    assert max(abs(a - b) for a, b in zip(moved, expected, strict=True)) <= 1
    assert min(moved) < band - 2
    assert max(moved) > band + 2


def test_nothing_moves_without_a_share() -> None:
    values = tones(700, 3)
    assert torch.allclose(warp(values, 0.0, MELS, np.random.default_rng(1)), values, atol=1e-5)
