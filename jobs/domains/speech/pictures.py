"""Spectrograms and attention as PNG files, for reports."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SCALE = 2
GAP = 4
# Corners of a scale from dark to light that also reads in grey, after matplotlib's magma.
COLOURS = np.asarray([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)])


def stacked(panels: Sequence[NDArray[Any]]) -> bytes:
    """Panels [height, width] of any values, one above the other, the first row of each lowest."""
    pictures = [_coloured(panel) for panel in panels if panel.size]
    width = max((picture.shape[1] for picture in pictures), default=1)
    height = sum(len(picture) for picture in pictures) + GAP * max(0, len(pictures) - 1)
    canvas = np.full((max(1, height), width, 3), 255, np.uint8)
    top = 0
    for picture in pictures:
        canvas[top : top + len(picture), : picture.shape[1]] = picture
        top += len(picture) + GAP
    image = Image.fromarray(canvas)
    file = io.BytesIO()
    image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.NEAREST).save(
        file, "PNG"
    )
    return file.getvalue()


def _coloured(panel: NDArray[Any]) -> NDArray[np.uint8]:
    values = panel[::-1].astype(np.float64)
    low, high = float(values.min()), float(values.max())
    places = (values - low) / ((high - low) or 1.0) * (len(COLOURS) - 1)
    corners = np.arange(len(COLOURS))
    channels = [np.interp(places, corners, COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, 2).astype(np.uint8)
