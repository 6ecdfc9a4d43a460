"""How a CSV or TSV file is written: what divides its cells, whether they are quoted, how many."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jobs.domains.encodings import decode, read_blocks
from jobs.domains.files import DataError, Source, open_source

csv.field_size_limit(1 << 30)  # a cell holds a document; Python's own limit is 128 KiB
HEAD_LINES = 2000
DELIMITERS = ",;\t|"
UNCLOSED_LINES = 10_000
"""A cell of more lines is taken for a quote that does not close."""


@dataclass(frozen=True)
class Dialect:
    """How cells are written in a file."""

    delimiter: str
    is_quoted: bool
    """Whether a cell that begins with a quote ends at the next; a TSV may hold quotes as such."""
    width: int
    """Cells in most of the first rows."""


def dialect_of(source: Source, encoding: str) -> Dialect:
    """Found in the first lines of a file."""
    lines = list(islice(_lines(source, encoding), HEAD_LINES))
    full = [line.removesuffix("\n") for line in lines if line != "\n"]
    is_csv = source.suffix == ".csv"
    first = full[0] if full else ""
    delimiter = "\t"
    if is_csv:
        delimiter = next((mark for mark in DELIMITERS if mark in first), ",")
    is_quoted = is_csv or not _holds_quotes(full, delimiter)
    rows = _parse(lines, delimiter, is_quoted)
    try:
        widths = Counter(len(row) for row in rows if row)
    except csv.Error:
        widths = Counter([first.count(delimiter) + 1])
    return Dialect(delimiter, is_quoted, max(widths, key=lambda w: widths[w], default=0))


def read_cells(source: Source, encoding: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """(line from 1, cells) of each row that is not blank."""
    path = source.path
    rows = _parse(_lines(source, encoding), dialect.delimiter, dialect.is_quoted)
    line = 0
    try:
        for row in rows:
            if rows.line_num - line > UNCLOSED_LINES:
                raise DataError(
                    f"{path}:{line + 1}: a quote opens here that does not close for "
                    f"{rows.line_num - line:,} lines; mend that line"
                )
            if row:
                yield line + 1, row
            line = rows.line_num
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}; mend that line") from error


def split_lines(texts: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """(line, whether a newline ended it); lines end at "\\n" or "\\r\\n" only."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from ((line.removesuffix("\r"), True) for line in lines)
    if rest:
        yield rest, False


def _lines(source: Source, encoding: str) -> Iterator[str]:
    """Lines with the newline that ends them, "\\n" for "\\r\\n" too."""
    rest = ""
    with open_source(source) as file:
        for text in decode(source.path, read_blocks(file), encoding, by_rows=True):
            *lines, rest = (rest + text).replace("\r\n", "\n").split("\n")
            for line in lines:
                yield line + "\n"
    if rest:
        yield rest


def _parse(lines: Iterable[str], delimiter: str, is_quoted: bool) -> Any:
    if is_quoted:
        return csv.reader(lines, delimiter=delimiter)
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)


def _holds_quotes(lines: list[str], delimiter: str) -> bool:
    """Whether quotes are plain characters: rows are even without them, or cells are not closed."""
    cells = [line.split(delimiter) for line in lines]
    opened = [cell for row in cells for cell in row if cell.startswith('"')]
    closed = [cell for cell in opened if len(cell) > 1 and cell.endswith('"')]
    if len({len(row) for row in cells}) > 1:
        return False
    return len(closed) < len(opened) or any('"' in c[1:-1].replace('""', "") for c in closed)
