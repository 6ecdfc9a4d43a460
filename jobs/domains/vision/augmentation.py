"""Pictures varied at random: moved, mirrored, partly erased; the same for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

ERASED = 0.02, 0.25
"""Least and most of a picture that is erased, as shares of its pixels."""
RATIO = 3.3
"""Most that the sides of an erased rectangle differ; both from Zhong et al., arXiv:1708.04896."""


def moved(
    pixels: NDArray[np.uint8], settings: Any, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Pictures [batch, channels, height, width] moved by up to `settings.crop` and mirrored.

    What moves in is the picture's mirror image, so that no edge appears.
    """
    number, _, height, width = pixels.shape
    reach = min(round(settings.crop * height), height - 1)
    chosen = np.arange(number)
    if reach:
        border = ((0, 0), (0, 0), (reach, reach), (reach, reach))
        windows = sliding_window_view(np.pad(pixels, border, "reflect"), (height, width), (2, 3))
        down, right = random.integers(0, 2 * reach + 1, (2, number))
        pixels = windows[chosen, :, down, right]
    if settings.flip:
        mirrored = random.random((number, 1, 1, 1)) < 0.5
        pixels = np.where(mirrored, pixels[..., ::-1], pixels)
    return pixels


def erased(
    shape: tuple[int, ...], settings: Any, random: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Where pictures of [batch, channels, height, width] are erased, [batch, 1, height, width]."""
    if not settings.erase:
        return None
    number, _, height, width = shape
    area = random.uniform(*ERASED, number) * height * width
    ratio = np.exp(random.uniform(-np.log(RATIO), np.log(RATIO), number))
    rows = _inside(np.sqrt(area * ratio), height, random)
    columns = _inside(np.sqrt(area / ratio), width, random)
    chosen = random.random((number, 1, 1, 1)) < settings.erase
    mask: NDArray[np.bool_] = rows[:, None, :, None] & columns[:, None, None, :] & chosen
    return mask


def _inside(
    lengths: NDArray[np.float64], side: int, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Places along a side that a stretch of such a length covers, [batch, side]."""
    lengths = np.clip(np.rint(lengths), 1, side)
    start = np.floor(random.random(len(lengths)) * (side - lengths + 1))[:, None]
    places = np.arange(side)
    covered: NDArray[np.bool_] = (places >= start) & (places < start + lengths[:, None])
    return covered
