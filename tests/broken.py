"""Files that are not what they say they are."""

from __future__ import annotations

import io
import struct
import wave
import zipfile
import zlib

from serve.samples import picture, tone


def broken_files() -> dict[str, bytes]:
    """Name -> content; none of them is a picture or a sound that a model can use."""
    png, wav = picture(), tone(0.2)
    return {
        "nothing": b"",
        "a text": b"this is a text, not a picture",
        "a page": b"<!doctype html><html><body>404</body></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
        "zeros": bytes(4096),
        "noise": bytes((n * 197 + 31) % 256 for n in range(4096)),
        "png, only its mark": png[:8],
        "png, cut off": png[: len(png) // 2],
        "png of other bytes": png[:8] + bytes(60),
        "png, a bomb": bomb(),
        "jpeg, only its mark": b"\xff\xd8\xff\xe0" + bytes(200),
        "gif, only its mark": b"GIF89a" + b"\xff" * 30,
        "tiff that points nowhere": b"II*\x00" + struct.pack("<I", 2**31),
        "webp that lies": b"RIFF\xff\xff\xff\x7fWEBPVP8 " + bytes(20),
        "zip": packed(),
        "wav, only its mark": wav[:12],
        "wav, head only": wav[:44],
        "wav that lies": b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\x00\x00\x00",
        "wav without channels": wav[:22] + b"\x00\x00" + wav[24:],
        "wav at no rate": wav[:24] + bytes(4) + wav[28:],
        "wav of nothing": sound(b""),
        "an hour of silence": sound(bytes(3600 * 4000), rate=4000, width=1),
        "ogg, only its mark": b"OggS" + bytes(40),
        "mp3 of noise": b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(range(256)) * 8,
        "flac, only its mark": b"fLaC" + bytes(40),
    }


def bomb(side: int = 50_000) -> bytes:
    """A PNG of a few kilobytes that says that it has 2.5 billion points."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def packed() -> bytes:
    """A zip with a picture in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", picture())
    return file.getvalue()


def sound(samples: bytes, rate: int = 16000, width: int = 2) -> bytes:
    """A WAV of one channel."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, width, rate, 0, "NONE", ""))
        written.writeframes(samples)
    return file.getvalue()
