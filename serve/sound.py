"""Synthesised sound as files that clients can play."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.content import Content
from serve.errors import malformed

FORMATS = {
    "wav": ("WAV", "PCM_16", "audio/wav"),
    "mp3": ("MP3", "MPEG_LAYER_III", "audio/mpeg"),
    "flac": ("FLAC", "PCM_16", "audio/flac"),
    "opus": ("OGG", "OPUS", "audio/ogg"),
    "pcm": ("RAW", "PCM_16", "audio/pcm"),
}
"""OpenAI's names to libsndfile's format and subtype, and the media type."""


def speech(answer: Mapping[str, Any]) -> Content:
    """What Hugging Face's clients get: a WAV file."""
    return encoded(answer, "wav")


def encoded(answer: Mapping[str, Any], form: str) -> Content:
    """{"audio": [samples] float, "sampling_rate"} (or a WAV's bytes) in a format by name."""
    if form not in FORMATS:
        raise malformed(f'response_format must be one of {", ".join(FORMATS)}, not "{form}"')
    kind, subtype, media_type = FORMATS[form]
    audio = answer["audio"]
    if isinstance(audio, bytes) and form == "wav":
        return Content(audio, media_type)
    samples, rate = _samples(answer)
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return Content(file.getvalue(), media_type)


def _samples(answer: Mapping[str, Any]) -> tuple[NDArray[np.float32], int]:
    audio = answer["audio"]
    if isinstance(audio, bytes):
        import soundfile

        samples, rate = soundfile.read(io.BytesIO(audio), dtype="float32")
        return samples, int(rate)
    return np.clip(np.asarray(audio, np.float32), -1, 1), int(answer["sampling_rate"])
