"""Documents in a user's files, streamed: memory stays flat however large a file is.

A text file is one document. It comes in chunks of about 1 MiB cut at newlines, and in spans that
several processes read at the same time. A row of JSONL, CSV, TSV or parquet is a document.
"""

import os
from collections.abc import Callable, Iterator
from itertools import chain
from typing import IO

from jobs.domains.encodings import LINE_SAFE, decode, read_blocks, resolve
from jobs.domains.files import DataError, Source, explain, open_raw, open_source
from jobs.domains.records.record import Bad
from jobs.domains.text import builtin, tables
from jobs.domains.text.records import Document, Layout, Reading

SPAN_BYTES = 1 << 20
SUFFIXES = frozenset(
    {".txt", ".text", ".md", ".rst", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"}
)
REFUSED = {
    ".json": "write one JSON object per line and name it .jsonl",
    ".zip": "unpack it and name the folder",
    ".tar": "unpack it and name the folder",
    ".pdf": "convert it to text first",
    ".docx": "convert it to text first",
    ".epub": "convert it to text first",
}
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
READERS: dict[str, Callable[[Reading, int, int], Iterator[Document | Bad]]] = {
    "jsonl": tables.read_jsonl,
    "csv": tables.read_rows,
    "tsv": tables.read_rows,
    "parquet": tables.read_rows,
    "builtin": builtin.read,
}


def reading_of(source: Source, layout: Layout) -> Reading:
    """How a file is to be read; DataError where its kind or encoding is not for us."""
    if source.is_builtin:
        builtin.check(source.path)
        return Reading(source, "builtin", "utf-8", layout)
    if source.suffix in REFUSED:
        raise DataError(f"{source.path}: {source.suffix} is not read; {REFUSED[source.suffix]}")
    if source.size == 0 and source.named:
        raise DataError(f"{source.path}: is empty; leave it out of data.source")
    form = FORMATS.get(source.suffix, "text")
    encoding = "" if form == "parquet" else resolve(source, layout.encoding, form != "text")
    return Reading(source, form, encoding, layout)


def spans(reading: Reading) -> list[tuple[int, int]]:
    """Parts that can be read apart, (start, stop) in the format's own units; stop -1: the end."""
    if reading.form == "builtin":
        return builtin.spans(reading.source.path)
    if reading.form == "parquet":
        return tables.parquet_spans(reading)
    is_line_based = reading.form in ("text", "jsonl") and reading.encoding in LINE_SAFE
    if not is_line_based or reading.source.is_packed:
        return [(0, -1)]
    return list(_line_spans(reading.source)) or [(0, -1)]


def documents(reading: Reading, start: int, stop: int) -> Iterator[Document | Bad]:
    """The documents of one span, in order. Raises DataError for what makes the file unusable."""
    read = READERS.get(reading.form, _read_text)
    try:
        yield from read(reading, start, stop)
    except (OSError, EOFError) as error:
        raise explain(reading.source.path, error) from error


def _line_spans(source: Source) -> Iterator[tuple[int, int]]:
    """Byte ranges of about 1 MiB that end after a newline (longer where lines are)."""
    with open_raw(source) as file:
        size = file.seek(0, os.SEEK_END)
        start = 0
        while start < size:
            stop = _after_newline(file, start + SPAN_BYTES, size)
            yield start, stop
            start = stop


def _after_newline(file: IO[bytes], place: int, size: int) -> int:
    while place < size:
        file.seek(place)
        block = file.read(1 << 16)
        newline = block.find(b"\n")
        if newline >= 0:
            return place + newline + 1
        place += len(block)
    return size


def _read_text(reading: Reading, start: int, stop: int) -> Iterator[Document]:
    """Chunks of the one document; only the file's first opens it and only its last closes it."""
    source = reading.source
    encoding = "utf-8" if start and reading.encoding == "utf-8-sig" else reading.encoding
    with open_source(source) as file:
        if start:
            file.seek(start)
        blocks = read_blocks(file, stop - start if stop >= 0 else -1)
        texts = _at_newlines(decode(source.path, blocks, encoding, start))
        previous = next(texts, "")
        opens = start == 0
        for text in chain(texts, [""]):
            closes = not text and (stop < 0 or stop >= source.size)
            yield Document(previous, opens, closes, f"{source.path}:1")
            previous, opens = text, False
            if not text:
                return


def _at_newlines(texts: Iterator[str]) -> Iterator[str]:
    """The same text cut after newlines; "\\r\\n" and "\\r" become "\\n", as Python reads text."""
    rest = ""
    for text in texts:
        text = rest + text
        held = text.endswith("\r")  # perhaps half of "\r\n"
        body = text[:-1] if held else text
        cut = body.rfind("\n") + 1 or len(body)
        if part := _newlines(body[:cut]):
            yield part
        rest = text[cut:]
    if rest:
        yield _newlines(rest)


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
