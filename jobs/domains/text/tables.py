"""Documents in the rows of JSONL, CSV, TSV and parquet files."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.domains.encodings import decode, read_blocks
from jobs.domains.files import DataError, open_raw, open_source
from jobs.domains.records.record import Bad
from jobs.domains.text.records import Document, Reading

csv.field_size_limit(1 << 30)  # a cell holds a document; Python's own limit is 128 KiB


def read_jsonl(reading: Reading, start: int, stop: int) -> Iterator[Document | Bad]:
    """One JSON object a line. A last line that is cut off is an error, not a dropped row."""
    path = reading.source.path
    encoding = "utf-8" if start and reading.encoding == "utf-8-sig" else reading.encoding
    with open_source(reading.source) as file:
        if start:
            file.seek(start)
        blocks = read_blocks(file, stop - start if stop >= 0 else -1)
        lines = _lines(decode(path, blocks, encoding, start))
        for number, (line, ended) in enumerate(lines, 1):
            if line.strip():
                row = _json_row(line, ended, reading, f"{path}:{number}")
                yield replace(row, after=start) if start else row


def read_csv(reading: Reading, start: int, stop: int) -> Iterator[Document | Bad]:
    """Rows below a line of column names (or, where the column is a position, all rows)."""
    path, column = reading.source.path, reading.layout.column
    with open_source(reading.source) as file:
        texts = decode(path, read_blocks(file), reading.encoding)
        lines = (line + "\n" for line, _ in _lines(texts))
        rows = csv.reader(lines, delimiter="\t" if reading.form == "tsv" else ",")
        try:
            names = next(rows, [])
            place = _position(names, column, path)
            for row in chain([names] if isinstance(column, int) else [], rows):
                yield _csv_row(row, len(names), place, f"{path}:{rows.line_num}")
        except csv.Error as error:
            raise DataError(f"{path}:{rows.line_num}: {error}; mend that line") from error


def parquet_spans(reading: Reading) -> list[tuple[int, int]]:
    """Row groups, one by one."""
    with _parquet(reading) as file:
        return [(i, i + 1) for i in range(file.num_row_groups)]


def read_parquet(reading: Reading, start: int, stop: int) -> Iterator[Document | Bad]:
    path = reading.source.path
    with _parquet(reading) as file:
        names = file.schema_arrow.names
        name = names[_position(names, reading.layout.column, path)]
        row = sum(file.metadata.row_group(i).num_rows for i in range(start))
        groups = list(range(start, stop))
        for batch in file.iter_batches(batch_size=1024, row_groups=groups, columns=[name]):
            for value in batch.column(0).to_pylist():
                row += 1
                yield _value(value, f"{path}:row {row}", name)


@contextmanager
def _parquet(reading: Reading) -> Iterator[Any]:
    path = reading.source.path
    with open_raw(reading.source) as raw:
        try:
            yield pq.ParquetFile(raw)
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{path}: is no complete parquet file ({reason}); copy it again"
            ) from error


def _lines(texts: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """(line, whether a newline ended it); lines end at "\\n" or "\\r\\n" only."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from ((line.removesuffix("\r"), True) for line in lines)
    if rest:
        yield rest, False


def _csv_row(row: list[str], num_columns: int, place: int, at: str) -> Document | Bad:
    if not row:
        return Bad("empty", at)
    if len(row) != num_columns:
        return Bad(f"{len(row)} columns, not {num_columns}", at)
    return Document(row[place], place=at)


def _json_row(line: str, ended: bool, reading: Reading, place: str) -> Document | Bad:
    column = reading.layout.column
    try:
        row = json.loads(line)
    except ValueError as error:
        if not ended:
            raise DataError(
                f"{reading.source.path}: the last line is cut off ({error}); copy the file again, "
                "or remove that line"
            ) from None
        return Bad("not JSON", place)
    if not isinstance(row, dict):
        return Bad("not a JSON object", place)
    if column not in row:
        return Bad(f'no "{column}" (has {", ".join(map(str, list(row)[:8]))})', place)
    return _value(row[column], place, str(column))


def _value(value: object, place: str, column: str) -> Document | Bad:
    if isinstance(value, str):
        return Document(value, place=place)
    if value is None:
        return Bad("empty", place)
    return Bad(f'"{column}" is no text', place)


def _position(names: list[str], column: str | int, path: str) -> int:
    """Place of the text's column; DataError names the columns that exist."""
    if isinstance(column, int):
        if column < len(names):
            return column
    elif column in names:
        return names.index(column)
    raise DataError(
        f"{path}: has no column {column!r}; it has {', '.join(names[:20]) or 'no columns'}: "
        "name one in data.columns.text"
    )
