"""Encoded pictures to pixels: every mode, and what must not be decoded."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.domains.vision.decoding import (
    PictureError,
    decode,
    encode_grey,
    encode_png,
    examine,
    pixels_of,
)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    length = struct.pack(">I", 13)
    data = struct.pack(">I", 100) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + length + chunk + struct.pack(">I", zlib.crc32(chunk)) + data


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"this is a text, whatever its name says", "no picture of a known format"),
        (encoded(NOISE)[:2000], "broken"),
        (encoded(NOISE, "JPEG")[:700], "broken"),
        (encoded(NOISE, "GIF")[:1200], "broken"),
        (png_header(50_000, 50_000), "megapixels"),
        (b"P5 0 5 255\n", "0 pixels|known format|broken"),
        (b"P5 9000 9000 255\n", "megapixels"),
        (b"%PDF-1.4", "known format"),
    ],
)
def test_what_cannot_be_used_is_named(content: bytes, cause: str) -> None:
    for read in (decode, examine):
        with pytest.raises(PictureError, match=cause):
            read(content)


@pytest.mark.parametrize(
    ("image", "kind", "mode", "value"),
    [
        (Image.new("L", (4, 4), 77), "PNG", "L", 77),
        (Image.new("1", (4, 4), 1), "PNG", "L", 255),
        (Image.new("RGB", (4, 4), (9, 8, 7)), "PNG", "RGB", (9, 8, 7)),
        (Image.new("RGBA", (4, 4), (9, 8, 7, 0)), "PNG", "RGB", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (9, 8, 7, 255)), "PNG", "RGB", (9, 8, 7)),
        (Image.new("LA", (4, 4), (9, 0)), "PNG", "L", 255),
        (Image.new("RGB", (4, 4), (200, 0, 0)).convert("P"), "PNG", "RGB", None),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG", "RGB", (0, 0, 0)),
        (Image.fromarray(np.full((4, 4), 0x80FF, np.uint16)), "PNG", "L", 0x80),
        (Image.fromarray(np.full((4, 4), 50.0, np.float32)), "TIFF", "L", 50),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_mode_becomes_grey_or_colour(
    image: Image.Image, kind: str, mode: str, value: Any
) -> None:
    found = decode(encoded(image, kind))
    assert found.mode == mode
    if value is not None:
        assert found.getpixel((1, 1)) == value


def test_a_photo_stands_as_its_camera_was_held() -> None:
    image = Image.new("L", (6, 4), 0)
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    found = decode(encoded(image, "PNG", exif=exif))
    assert found.size == (4, 6)
    assert found.getpixel((3, 0)) == 255


def test_pixels_are_cut_from_the_centre() -> None:
    image = Image.new("RGB", (60, 20), "red")
    image.paste((0, 0, 255), (20, 0, 40, 20))
    found = pixels_of(image, 10, 3)
    assert found.shape == (3, 10, 10)
    assert (found[2, :, 1:-1] == 255).all()
    assert (found[0, :, 1:-1] == 0).all()
    assert pixels_of(Image.new("L", (1, 3000), 9), 8, 1).tolist() == [[[9] * 8] * 8]


def test_pictures_of_the_wanted_size_keep_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12), np.uint8)
    assert np.array_equal(pixels_of(decode(encode_grey(pixels)), 12, 1)[0], pixels)
    colours = np.stack([pixels, pixels // 2, pixels // 3])
    assert np.array_equal(pixels_of(decode(encode_png(colours)), 12, 3), colours)


def test_a_large_jpeg_is_decoded_smaller() -> None:
    content = encoded(Image.new("L", (1600, 800), 90), "JPEG")
    assert decode(content, 64).size == (200, 100)
    assert examine(content) == (800, "L")
