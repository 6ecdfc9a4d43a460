"""Input to try models with, from data that needs no download: python -m jobs.samples FOLDER."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

WORD, DIGIT = "seven", 7
VOICE, SPEED, PITCH = "en-us", 175, 50
ENLARGED = 8
"""So much larger than the 8 x 8 points that the model sees, for people to look at."""


def write_samples(folder: Path) -> None:
    """seven.png, a handwritten digit, and seven.wav, a spoken word."""
    folder.mkdir(parents=True, exist_ok=True)
    write_digit(folder / "seven.png")
    write_word(folder / "seven.wav")


def write_digit(path: Path) -> None:
    """The first seven of scikit-learn's digits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images[found.target == DIGIT][0] * (255 / 16)).round().astype("uint8")
    height, width = pixels.shape
    size = (width * ENLARGED, height * ENLARGED)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path)


def write_word(path: Path) -> None:
    """Spoken by espeak-ng."""
    from jobs.domains.speech.espeak import speak

    samples, rate = speak(WORD, VOICE, SPEED, PITCH)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]))
