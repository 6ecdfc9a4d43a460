"""What a newcomer tries models with can be read by them."""

from __future__ import annotations

import wave
from pathlib import Path

from PIL import Image

from jobs.samples import write_samples


def test_samples_are_a_picture_and_a_sound(tmp_path: Path) -> None:
    write_samples(tmp_path / "new")
    assert Image.open(tmp_path / "new" / "seven.png").size == (64, 64)
    with wave.open(str(tmp_path / "new" / "seven.wav")) as sound:
        assert sound.getnframes() > 0.2 * sound.getframerate()
