"""Bytes to text: UTF-8 first, then GB18030, in a stream; what fits neither is an error."""

import codecs
from collections.abc import Iterator
from typing import IO

from jobs.domains.files import DataError, Source, explain, open_source

BLOCK_BYTES = 1 << 20
SURELY_UTF8 = 16
"""So many well-formed multi-byte characters do not come about by chance in another encoding."""
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
LINE_SAFE = frozenset({"utf-8", "utf-8-sig", "gb18030", "ascii", "latin-1", "iso8859-1", "cp1252"})
"""Encodings in which the byte 0x0A is always a newline."""


def resolve(source: Source, encoding: str) -> str:
    """The codec's name for a file; for "auto" by reading all of it.

    Raises DataError with the file, the byte and the next step where nothing fits.
    """
    try:
        with open_source(source) as file:
            if encoding != "auto":
                name = _lookup(encoding)
                return "utf-8-sig" if name == "utf-8" else name
            return _detect(source, file)
    except (OSError, EOFError) as error:
        raise explain(source.path, error) from error


def decode(path: str, blocks: Iterator[bytes], encoding: str, offset: int = 0) -> Iterator[str]:
    """Text of consecutive blocks, same cuts but for characters that cross them.

    `offset` is the first block's place in the file, for the message of DataError.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    block: bytes = b""
    done = False
    while not done:
        pending = len(decoder.getstate()[0])
        block = next(blocks, b"")
        done = not block
        try:
            text = decoder.decode(block, final=done)
        except UnicodeDecodeError as error:
            place = offset - pending + error.start
            raise _wrong(path, encoding, place, error.reason) from None
        offset += len(block)
        if text:
            yield text


def read_blocks(file: IO[bytes], num_bytes: int = -1) -> Iterator[bytes]:
    """Blocks of about 1 MiB from here, `num_bytes` in all (-1: to the end)."""
    while num_bytes:
        block = file.read(BLOCK_BYTES if num_bytes < 0 else min(BLOCK_BYTES, num_bytes))
        if not block:
            return
        num_bytes -= len(block) if num_bytes > 0 else 0
        yield block


def _lookup(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise DataError(
            f'data.encoding: "{encoding}" is unknown; use auto, utf-8, gb18030, latin-1, ...'
        ) from None


def _detect(source: Source, file: IO[bytes]) -> str:
    head = file.read(BLOCK_BYTES)
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if b"\0" in head:
        raise DataError(
            f"{source.path}: looks like a binary file, not text (byte {head.index(0)} is 0); "
            "leave it out of data.source, or name its encoding in data.encoding"
        )
    failure = _first_failure(file, head, "utf-8")
    if failure is None:
        return "utf-8"
    place, reason, characters = failure
    if characters >= SURELY_UTF8 or reason == "unexpected end of data":
        raise _wrong(source.path, "utf-8", place, reason)
    file.seek(0)
    if _first_failure(file, file.read(BLOCK_BYTES), "gb18030") is None:
        return "gb18030"
    raise DataError(
        f"{source.path}: is neither UTF-8 (byte {place}: {reason}) nor GB18030; "
        "name its encoding in data.encoding (latin-1, shift-jis, ...)"
    )


def _first_failure(file: IO[bytes], head: bytes, encoding: str) -> tuple[int, str, int] | None:
    """(byte, reason, multi-byte characters before it), or None where all of it decodes."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = characters = 0
    block = head
    while True:
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            good = bytes(error.object[: error.start]).decode(encoding)
            return offset - pending + error.start, error.reason, characters + _multi_byte(good)
        characters += _multi_byte(text)
        if not block:
            return None
        offset += len(block)
        block = file.read(BLOCK_BYTES)


def _multi_byte(text: str) -> int:
    return 0 if text.isascii() else len(text.encode()) - len(text)


def _wrong(path: str, encoding: str, place: int, reason: str) -> DataError:
    if "incomplete" in reason or "unexpected end" in reason:
        return DataError(
            f"{path}: ends in the middle of a character (byte {place}, {encoding}): "
            "the file is cut off; copy or download it again"
        )
    return DataError(
        f"{path}: byte {place} is not {encoding}: {reason}; "
        "mend the file, or name its encoding in data.encoding"
    )
