"""Requests that warm a model up: the smallest valid picture and a moment of sound."""

from __future__ import annotations

import io
import math
import wave


def picture() -> bytes:
    """A grey PNG of 8 x 8 pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()


def tone(seconds: float = 0.5, rate: int = 16000) -> bytes:
    """A WAV of 440 Hz, 16 bits, one channel: silence is refused by what listens."""
    file = io.BytesIO()
    waves = (int(9000 * math.sin(math.tau * 440 * n / rate)) for n in range(int(seconds * rate)))
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        sound.writeframes(b"".join(each.to_bytes(2, "little", signed=True) for each in waves))
    return file.getvalue()
