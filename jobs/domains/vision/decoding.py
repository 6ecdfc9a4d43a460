"""Encoded pictures to pixels, with a bound on what is decoded. Needs no torch."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64 << 20
"""A picture of more is refused by its header: decoding it could take all memory."""
MAX_BYTES = 256 << 20
"""An encoded picture of more is refused unread."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
GREY = frozenset({"1", "L", "LA", "La", "I", "F"})


class PictureError(ValueError):
    """A picture that cannot be used; the text is its cause, the same for all such pictures."""


def decode(content: bytes, side: int | None = None) -> Image.Image:
    """An upright picture of mode "L" (grey) or "RGB", transparent parts on white.

    `side`: a JPEG may be decoded smaller, at least so long on its shorter side. Animations give
    their first picture. PictureError where it is broken, empty, too large or no picture.
    """
    return _decode(content, side)[0]


def examine(content: bytes) -> tuple[int, str]:
    """The shorter side in pixels and the mode, "L" or "RGB", of a picture that decodes whole.

    PictureError as `decode`.
    """
    image, size = _decode(content, 1)
    return min(size), image.mode


def _decode(content: bytes, side: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """The picture, and its size as it is stored."""
    if not content:
        raise PictureError("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a picture's metadata holds is no news
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            size = image.size
            _check(size)
            if side is not None:
                image.draft(None, (side, side))
            image.load()
            return _plain(ImageOps.exif_transpose(image)), size
        except PictureError:
            raise
        except UnidentifiedImageError as error:
            raise PictureError("no picture of a known format") from error
        except Image.DecompressionBombError as error:
            raise PictureError(_too_large()) from error
        except Exception as error:  # decoders raise what they like for broken bytes
            raise PictureError("broken picture") from error


def pixels_of(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """[channels, size, size]: the shorter side brought to `size`, then the centre of the longer."""
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        short = min(image.size)
        width, height = (max(size, round(side * size / short)) for side in image.size)
        # The box keeps a picture of 1 x 10,000 from growing to a strip of 64 x 640,000.
        kept = (short * size / size, short)
        left, top = (image.width - kept[0]) / 2, (image.height - kept[1]) / 2
        if width != height:
            box = (left, top, left + kept[0], top + kept[1])
            image = image.resize((size, size), Image.Resampling.BILINEAR, box)
        else:
            image = image.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def encode_grey(pixels: NDArray[np.uint8]) -> bytes:
    """[height, width] as a PGM file, for pictures that come as bare numbers."""
    height, width = pixels.shape
    return b"P5 %d %d 255\n" % (width, height) + pixels.tobytes()


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """[channels, height, width] as a PNG file."""
    shaped: NDArray[Any] = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shaped)).save(file, "PNG")
    return file.getvalue()


def _check(size: tuple[int, int]) -> None:
    if not all(size):
        raise PictureError("a picture of 0 pixels")
    if size[0] * size[1] > MAX_PIXELS:
        raise PictureError(_too_large())


def _too_large() -> str:
    return f"more than {MAX_PIXELS >> 20} megapixels"


def _plain(image: Image.Image) -> Image.Image:
    """Mode "L" or "RGB"; 16-bit grey keeps its upper 8 bits, as its range is 0 to 65,535."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        values = values / 256 if image.mode == "I" else values
        return Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA"):
        image = image.convert("RGBA") if image.mode != "LA" else image
        white = Image.new(image.mode, image.size, "white")
        image = Image.alpha_composite(white, image) if image.mode == "RGBA" else _on_white(image)
    return image.convert("L" if image.mode in GREY else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    grey, alpha = image.split()
    return Image.composite(grey, Image.new("L", image.size, 255), alpha)
