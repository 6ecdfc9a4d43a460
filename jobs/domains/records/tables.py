"""Rows of CSV, TSV, JSONL and parquet files: the one reader of tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.domains.encodings import decode, read_blocks, resolve
from jobs.domains.files import DataError, Source, explain, open_raw, open_source
from jobs.domains.records.record import Bad

csv.field_size_limit(1 << 30)  # a cell holds a document; Python's own limit is 128 KiB
SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet"})
FORMS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
Columns = Mapping[str, str | int]
"""Role to the name of a column, or to its position from 0."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells that were asked for, by role, and where they stand."""

    cells: dict[str, Any]
    """Texts; what the file holds for roles in `raw`."""
    place: str


def form_of(source: Source) -> str:
    """csv, jsonl, parquet, or tsv for all other names."""
    return FORMS.get(source.suffix, "tsv")


def describe_table(source: Source, encoding: str = "auto") -> dict[str, str]:
    """{"form", "encoding"} of a table; DataError where its encoding is not for us."""
    form = form_of(source)
    return {"form": form, "encoding": "" if form == "parquet" else resolve(source, encoding)}


def read_table(
    source: Source,
    columns: Columns,
    encoding: str = "auto",
    start: int = 0,
    stop: int | None = None,
    raw: Collection[str] = (),
) -> Iterator[Row | Bad]:
    """Rows start <= i < stop in order, counting bad ones. Numbers become text.

    A row that lacks a cell is Bad. Where all columns are positions, a CSV or TSV has no line of
    names. DataError where the file cannot be used or a column does not exist.
    """
    about = describe_table(source, encoding)
    readers = {"parquet": _parquet_rows, "jsonl": _json_rows}
    try:
        if about["form"] in readers:
            rows = readers[about["form"]](source, columns, about["encoding"], raw)
        else:
            rows = _csv_rows(source, columns, about["encoding"], raw)
        yield from islice(rows, start, stop)
    except (OSError, EOFError) as error:
        raise explain(source.path, error) from error


def _csv_rows(
    source: Source, columns: Columns, encoding: str, raw: Collection[str]
) -> Iterator[Row | Bad]:
    path = source.path
    with open_source(source) as file:
        lines = (line + "\n" for line, _ in split_lines(decode(path, read_blocks(file), encoding)))
        delimiter = "," if form_of(source) == "csv" else "\t"
        rows = csv.reader(lines, delimiter=delimiter)
        try:
            first = next(rows, [])
            places = {role: position(first, role, column, path) for role, column in columns.items()}
            is_headless = all(isinstance(column, int) for column in columns.values())
            line = 0 if is_headless else rows.line_num
            for row in chain([first] if is_headless else [], rows):
                at, line = f"{path}:{line + 1}", rows.line_num
                if not row:
                    yield Bad("empty", at)
                elif len(row) != len(first):
                    yield Bad(f"{len(row)} columns, not {len(first)}", at)
                else:
                    yield Row({role: row[place] for role, place in places.items()}, at)
        except csv.Error as error:
            raise DataError(f"{path}:{rows.line_num}: {error}; mend that line") from error


def _json_rows(
    source: Source, columns: Columns, encoding: str, raw: Collection[str]
) -> Iterator[Row | Bad]:
    path = source.path
    with open_source(source) as file:
        lines = split_lines(decode(path, read_blocks(file), encoding))
        for number, (line, ended) in enumerate(lines, 1):
            if line.strip():
                yield json_row(line, ended, columns, path, f"{path}:{number}", raw)


def json_row(
    line: str, ended: bool, columns: Columns, path: str, place: str, raw: Collection[str] = ()
) -> Row | Bad:
    """One line of JSONL. A last line that is cut off is an error, not a dropped row."""
    try:
        row = json.loads(line)
    except ValueError as error:
        if not ended:
            raise DataError(
                f"{path}: the last line is cut off ({error}); copy the file again, "
                "or remove that line"
            ) from None
        return Bad("not JSON", place)
    if not isinstance(row, dict):
        return Bad("not a JSON object", place)
    names = list(row)
    cells = {}
    for role, column in columns.items():
        if isinstance(column, int) and column < len(names):
            column = names[column]
        if column not in row:
            return Bad(f'no "{column}" (has {", ".join(map(str, names[:8]))})', place)
        value = row[column]
        cells[role] = value if role in raw else as_text(value)
        if cells[role] is None:
            return Bad("empty" if value is None else f'"{column}" is no text', place)
    return Row(cells, place)


def _parquet_rows(
    source: Source, columns: Columns, encoding: str, raw: Collection[str]
) -> Iterator[Row | Bad]:
    with open_parquet(source) as file:
        known = file.schema_arrow.names
        names = {r: known[position(known, r, c, source.path)] for r, c in columns.items()}
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=list(set(names.values()))):
            for row in batch.to_pylist():
                number += 1
                yield _cells(row, names, f"{source.path}:row {number}", raw)


def _cells(
    row: Mapping[str, Any], names: Mapping[str, str], place: str, raw: Collection[str]
) -> Row | Bad:
    cells = {}
    for role, name in names.items():
        value = row[name]
        cells[role] = value if role in raw else as_text(value)
        if cells[role] is None:
            return Bad("empty" if value is None else f'"{name}" is no text', place)
    return Row(cells, place)


@contextmanager
def open_parquet(source: Source) -> Iterator[Any]:
    """The file as pyarrow reads it; DataError where it is no parquet file."""
    with open_raw(source) as raw:
        try:
            yield pq.ParquetFile(raw)
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{source.path}: is no complete parquet file ({reason}); copy it again"
            ) from error


def split_lines(texts: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """(line, whether a newline ended it); lines end at "\\n" or "\\r\\n" only."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from ((line.removesuffix("\r"), True) for line in lines)
    if rest:
        yield rest, False


def as_text(value: object) -> str | None:
    """A cell as text: 3 and 3.0 become "3", dates ISO; None for what is no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return str(value.isoformat()) if hasattr(value, "isoformat") else None


def position(names: list[str], role: str, column: str | int, path: str) -> int:
    """The place of a column; DataError names the columns that exist."""
    if isinstance(column, int):
        if column < len(names):
            return column
    elif column in names:
        return names.index(column)
    raise DataError(
        f"{path}: has no column {column!r}; it has {', '.join(names[:20]) or 'no columns'}: "
        f"name one in data.columns.{role}"
    )
