"""Encoded recordings to samples, with a bound on what is decoded, and back. Needs no torch.

Training and serving take the same way: one channel, one rate, one loudness, no silent ends.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import asdict, dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

FILE = "sound.json"
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
MAX_BYTES = 256 << 20
"""A recording of more is refused unread."""
MOST_SILENCE = 4
"""A recording may last so many times `longest` before its silent ends are cut."""
RATES = (1_000, 400_000)
SILENCE_DB = -60.0
"""A recording whose loudest moment is below, against full scale, holds nothing."""
BELOW_PEAK_DB = 40.0
"""Ends that are so much softer than the loudest moment are silence."""
MARGIN_S = 0.05
"""So much of the silence stays at each end."""
PEAK = 0.98
STREAMED = (0, 0xFFFFFFFF)
"""Sizes that say: of unknown length."""


class SoundError(ValueError):
    """A recording that cannot be used; the text is its cause, the same for all such ones."""


@dataclass(frozen=True)
class Sound:
    """What every recording is brought to."""

    rate: int = 16_000
    """Samples per second."""
    longest_s: float = 20.0
    trim: bool = True
    loudness: float = -25.0
    """Root mean square in dB of full scale, as far as nothing is clipped."""

    @classmethod
    def load(cls, folder: Path) -> Sound:
        return cls(**json.loads((folder / FILE).read_text("utf-8")))

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self)), "utf-8")


def decode(content: bytes, sound: Sound) -> NDArray[np.int16]:
    """Samples [time] of a WAV, FLAC, OGG or MP3 file as `sound` wants them.

    SoundError where it is broken, cut off, silent, too long or no recording.
    """
    samples, rate = _read(content, sound)
    if samples.size == 0:
        raise SoundError("no samples")
    if not np.isfinite(samples).all():
        raise SoundError("samples that are not numbers")
    mono = samples.mean(1, dtype=np.float64)
    mono -= mono.mean()  # cheap sound cards add a constant
    mono = _resampled(mono, rate, sound.rate)
    mono = _checked(mono, sound)
    if mono.size > sound.longest_s * sound.rate:
        raise SoundError(f"longer than {sound.longest_s:g} s")
    gain = 10 ** (sound.loudness / 20) / np.sqrt(np.mean(mono**2))
    gain = min(gain, PEAK / np.abs(mono).max())
    found: NDArray[np.int16] = np.rint(mono * gain * 32767).astype(np.int16)
    return found


def encode_wav(samples: NDArray[Any], rate: int) -> bytes:
    """Samples [time], int16 or of -1 to 1, as a WAV file of 16 bits."""
    if samples.dtype != np.int16:
        samples = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _read(content: bytes, sound: Sound) -> tuple[NDArray[np.float32], int]:
    """Samples [time, channels] and their rate."""
    if not content:
        raise SoundError("empty file")
    if _is_cut_off(content):
        raise SoundError("cut off: its header promises more samples than the file holds")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate = int(file.samplerate)
            if not RATES[0] <= rate <= RATES[1]:
                raise SoundError("an impossible rate (none of 1 to 400 kHz)")
            most = int(MOST_SILENCE * sound.longest_s * rate)
            if file.frames > most:
                raise SoundError(f"longer than {sound.longest_s:g} s")
            return file.read(most, dtype="float32", always_2d=True), rate
    except SoundError:
        raise
    except soundfile.LibsndfileError as error:
        raise SoundError("no recording of a known format, or a broken one") from error
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        raise SoundError("a broken recording") from error


def _is_cut_off(content: bytes) -> bool:
    """Whether a WAV file is shorter than it says; libsndfile reads what is there, and is silent."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return False
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], struct.unpack("<I", content[at + 4 : at + 8])[0]
        if name == b"data":
            return size not in STREAMED and size > len(content) - at - 8
        at += 8 + size + size % 2
    return False


def _resampled(samples: NDArray[np.float64], rate: int, wanted: int) -> NDArray[np.float64]:
    """At another rate, by a polyphase filter."""
    if rate == wanted:
        return samples
    divisor = gcd(rate, wanted)
    up, down = wanted // divisor, rate // divisor
    found: NDArray[np.float64] = resample_poly(samples, up, down)
    return found


def _checked(samples: NDArray[np.float64], sound: Sound) -> NDArray[np.float64]:
    """Without its silent ends; SoundError where all of it is silence."""
    hop = max(1, sound.rate // 100)
    size = -(-len(samples) // hop)
    padded = np.pad(samples, (0, size * hop - len(samples)))
    loud = 10 * np.log10(np.mean(padded.reshape(size, hop) ** 2, axis=1) + 1e-12)
    if loud.max() < SILENCE_DB:
        raise SoundError("silence")
    if not sound.trim:
        return samples
    heard = np.flatnonzero(loud > loud.max() - BELOW_PEAK_DB)
    margin = int(MARGIN_S * sound.rate)
    start, stop = heard[0] * hop - margin, (heard[-1] + 1) * hop + margin
    return samples[max(0, start) : stop]
