"""Synthesised sound as files that clients can play."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from typing import Any

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
STREAMED = ("mp3", "pcm")
"""Formats whose files may simply follow each other."""
SENTENCE = re.compile(r"[^.!?\u3002\uff01\uff1f\n]+[.!?\u3002\uff01\uff1f\n]*")


def speech(answer: Mapping[str, Any]) -> Content:
    """What Hugging Face's clients get: a WAV file."""
    return encoded(answer, "wav")


def encoded(answer: Mapping[str, Any], form: str) -> Content:
    """{"audio": a WAV file in base64, "sampling_rate"} in a format by name."""
    if form not in FORMATS:
        raise malformed(f'response_format must be one of {", ".join(FORMATS)}, not "{form}"')
    kind, subtype, media_type = FORMATS[form]
    file = base64.b64decode(answer["audio"])
    if form == "wav":
        return Content(file, media_type)
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(file), dtype="float32")
    written = io.BytesIO()
    soundfile.write(written, samples, rate, format=kind, subtype=subtype)
    return Content(written.getvalue(), media_type)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its end, so that the first can be heard early."""
    parts = [part.strip() for part in SENTENCE.findall(text)]
    return [part for part in parts if part] or [text]
