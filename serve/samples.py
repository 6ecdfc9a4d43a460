"""Requests that warm a model up: the smallest valid picture and a moment of silence."""

from __future__ import annotations

import io
import wave


def picture() -> bytes:
    """A grey PNG of 8 x 8 pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()


def silence(seconds: float = 0.5, rate: int = 16000) -> bytes:
    """A WAV of silence, 16 bits, one channel."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        sound.writeframes(bytes(2 * int(seconds * rate)))
    return file.getvalue()
