"""Bytes to text: UTF-8 first, then GB18030, in a stream; what fits neither is an error."""

import codecs
import re
from collections.abc import Iterator
from typing import IO

from jobs.domains.files import DataError, Source, explain, open_source

BLOCK_BYTES = 1 << 20
SURELY_UTF8 = 16
"""So many well-formed multi-byte characters do not come about by chance in another encoding."""
FAR_FEWER = 10
"""A broken file is GB18030 where it has so many times fewer wrong bytes than as UTF-8."""
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ESCAPED = re.compile("[\ud800-\udfff]")
"""What `decode` makes of wrong bytes where it may not raise, and nothing else in a text."""
LINE_SAFE = frozenset({"utf-8", "utf-8-sig", "gb18030", "ascii", "latin-1", "iso8859-1", "cp1252"})
"""Encodings in which the byte 0x0A is always a newline."""


def resolve(source: Source, encoding: str, by_rows: bool = False) -> str:
    """The codec's name for a file; for "auto" by reading all of it.

    Raises DataError with the file, the byte and the next step where nothing fits; `by_rows` takes
    what fits best then, for a reader that leaves out single rows.
    """
    try:
        with open_source(source) as file:
            if encoding != "auto":
                name = _lookup(encoding)
                return "utf-8-sig" if name == "utf-8" else name
            return _detect(source, file, by_rows)
    except (OSError, EOFError) as error:
        raise explain(source.path, error) from error


def decode(
    path: str, blocks: Iterator[bytes], encoding: str, offset: int = 0, by_rows: bool = False
) -> Iterator[str]:
    """Text of consecutive blocks, same cuts but for characters that cross them.

    `offset` is the first block's place in the file, for the message of DataError. `by_rows` gives
    wrong bytes as ESCAPED characters instead, in encodings whose lines are safe from them.
    """
    errors = "surrogateescape" if by_rows and encoding in LINE_SAFE else "strict"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
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


def _detect(source: Source, file: IO[bytes], by_rows: bool) -> str:
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
        if by_rows:
            return "utf-8"
        raise _wrong(source.path, "utf-8", place, reason)
    file.seek(0)
    if _first_failure(file, file.read(BLOCK_BYTES), "gb18030") is None:
        return "gb18030"
    if by_rows:
        wrong = {name: _num_wrong(source.path, file, name) for name in ("utf-8", "gb18030")}
        return "gb18030" if wrong["gb18030"] < wrong["utf-8"] / FAR_FEWER else "utf-8"
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


def _num_wrong(path: str, file: IO[bytes], encoding: str) -> int:
    file.seek(0)
    texts = decode(path, read_blocks(file), encoding, by_rows=True)
    return sum(len(ESCAPED.findall(text)) for text in texts)


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
