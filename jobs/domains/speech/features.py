"""Log-mel spectrograms in torch: one function for training, evaluation and serving.

Slaney's mel scale and normalisation over magnitudes, as librosa's `melspectrogram(power=1)` has
them and Tacotron 2 uses them (arXiv:1712.05884). Frames are centred, with zeros beyond both ends,
so that a recording gives the same frames alone as beside longer ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FILE = "mels.json"
FLOOR = 1e-5
"""Magnitudes below are taken for this one; its logarithm fills up what is padded."""
LOG_FLOOR = float(np.log(FLOOR))
LINEAR_HZ, LINEAR_MELS, LOG_STEP = 1000.0, 15.0, np.log(6.4) / 27.0


@dataclass(frozen=True)
class Mels:
    """Sizes of a spectrogram, in samples and hertz."""

    rate: int
    num_mels: int
    window: int
    hop: int
    low: float = 0.0
    high: float = 8000.0

    @property
    def num_fft(self) -> int:
        return int(2 ** np.ceil(np.log2(self.window)))

    @classmethod
    def of(cls, rate: int, num_mels: int, window_s: float, hop_s: float) -> Mels:
        """Up to half the rate, and to 8 kHz, above which speech says little."""
        high = min(8000.0, rate / 2)
        return cls(rate, num_mels, round(window_s * rate), round(hop_s * rate), 0.0, high)

    @classmethod
    def load(cls, folder: Path) -> Mels:
        return cls(**json.loads((folder / FILE).read_text("utf-8")))

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self)), "utf-8")


def log_mels(samples: Tensor, lengths: Tensor, mels: Mels) -> tuple[Tensor, Tensor]:
    """Samples [batch, time] of -1 to 1 to natural logarithms [batch, frames, mels].

    With them the frames of each recording [batch]; frames beyond hold `LOG_FLOOR`.
    """
    window = torch.hann_window(mels.window, device=samples.device)
    spectra = torch.stft(
        samples,
        mels.num_fft,
        mels.hop,
        mels.window,
        window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    ).abs()
    energies = torch.from_numpy(filters(mels)).to(samples.device) @ spectra
    values = energies.clamp(min=FLOOR).log().transpose(1, 2)
    frames = 1 + lengths // mels.hop
    return values.masked_fill(~mask_of(frames, values.shape[1])[..., None], LOG_FLOOR), frames


def waves_of(rows: Any, name: str = "audio") -> tuple[Tensor, Tensor]:
    """Rows of int16 samples to samples of -1 to 1 [batch, time], and their lengths [batch]."""
    samples = torch.from_numpy(rows[name].astype(np.float32)) / 32768
    return samples, torch.from_numpy(rows[f"{name}_length"].astype(np.int64))


def mask_of(lengths: Tensor, size: int) -> Tensor:
    """True for what counts, [batch, size]."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


@lru_cache(maxsize=8)
def filters(mels: Mels) -> NDArray[np.float32]:
    """Triangles over the spectrum's lines, [mels, num_fft / 2 + 1], of equal area."""
    lines = np.linspace(0, mels.rate / 2, mels.num_fft // 2 + 1)
    ends = _to_mel(np.asarray([mels.low, mels.high]))
    corners = _to_hz(np.linspace(ends[0], ends[1], mels.num_mels + 2))
    widths = np.diff(corners)
    slopes = corners[:, None] - lines[None]
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    triangles *= (2 / (corners[2:] - corners[:-2]))[:, None]
    return triangles.astype(np.float32)


def places_of(mels: Mels, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where each band's middle frequency, times each factor [n], lies among the bands' own middles:
    0 to mels - 1, [n, mels]."""
    ends = _to_mel(np.asarray([mels.low, mels.high]))
    middles = np.linspace(ends[0], ends[1], mels.num_mels + 2)[1:-1]
    moved = _to_mel(_to_hz(middles)[None] * factors[:, None])
    places = (moved - middles[0]) / (middles[1] - middles[0])
    found: NDArray[np.float64] = np.clip(places, 0, mels.num_mels - 1)
    return found


def _to_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear to 1 kHz, logarithmic above (Slaney, 1998, "Auditory Toolbox")."""
    above = LINEAR_MELS + np.log(np.maximum(hertz, LINEAR_HZ) / LINEAR_HZ) / LOG_STEP
    return np.where(hertz < LINEAR_HZ, hertz * LINEAR_MELS / LINEAR_HZ, above)


def _to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = LINEAR_HZ * np.exp(LOG_STEP * (mel - LINEAR_MELS))
    return np.where(mel < LINEAR_MELS, mel * LINEAR_HZ / LINEAR_MELS, above)
