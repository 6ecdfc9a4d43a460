"""Rows of CSV, TSV, JSONL and parquet files: the one reader of tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.domains.encodings import ESCAPED, decode, read_blocks, resolve
from jobs.domains.files import DataError, Source, explain, open_raw, open_source
from jobs.domains.records.delimited import dialect_of, read_cells, split_lines
from jobs.domains.records.record import Bad

SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet"})
FORMS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
Columns = Mapping[str, str | int]
"""Role to the name of a column, or to its position from 0."""
Span = tuple[int, int | None]
"""The first row and the one behind the last."""
PARQUET_ROWS = 1024


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
    """{"form", "encoding"} of a table; DataError where it is empty or not for us."""
    form = form_of(source)
    if source.content is not None:
        return {"form": form, "encoding": resolve(source, encoding, by_rows=True)}
    if source.size == 0 and source.named and "://" not in source.path:
        raise DataError(f"{source.path}: is empty; leave it out of data.source")
    if form == "parquet":
        return {"form": form, "encoding": ""}
    return {"form": form, "encoding": _encoding(source, encoding)}


def read_table(
    source: Source,
    columns: Columns,
    encoding: str = "auto",
    start: int = 0,
    stop: int | None = None,
    raw: Collection[str] = (),
) -> Iterator[Row | Bad]:
    """Rows start <= i < stop in order, counting bad ones. Numbers become text.

    Cells of roles in `raw` stay as the file holds them. A row that lacks a cell is Bad. Where all
    columns are positions, a CSV or TSV has no line of names. DataError where the file cannot be
    used or a column does not exist.
    """
    about = describe_table(source, encoding)
    readers = {"parquet": _parquet_rows, "jsonl": _json_rows}
    read = readers.get(about["form"], _delimited_rows)
    try:
        yield from read(source, columns, about["encoding"], (start, stop), frozenset(raw))
    except (OSError, EOFError) as error:
        raise explain(source.path, error) from error


@lru_cache(maxsize=256)
def _encoding(source: Source, encoding: str) -> str:
    """Remembered, as all of a file is read to know it."""
    return resolve(source, encoding, by_rows=True)


def has_names(columns: Columns) -> bool:
    """Whether a CSV or TSV begins with a line of names: not where all columns are positions."""
    return any(isinstance(column, str) for column in columns.values())


def _delimited_rows(
    source: Source, columns: Columns, encoding: str, span: Span, raw: frozenset[str]
) -> Iterator[Row | Bad]:
    path, dialect = source.path, dialect_of(source, encoding)
    rows = read_cells(source, encoding, dialect)
    names, width = [str(i) for i in range(dialect.width)], dialect.width
    if has_names(columns):
        _, names = next(rows, (0, []))
        names, width = [name.strip() for name in names], len(names)
    elif not width:
        return
    places = {role: position(names, role, column, path) for role, column in columns.items()}
    for line, row in islice(rows, *span):
        at = f"{path}:{line}"
        if len(row) != width:
            yield Bad(f"wrong number of columns ({len(row)}, not {width})", at)
        else:
            cells = {role: row[place] for role, place in places.items()}
            yield _undecoded(cells, encoding, at) or Row(cells, at)


def _json_rows(
    source: Source, columns: Columns, encoding: str, span: Span, raw: frozenset[str]
) -> Iterator[Row | Bad]:
    path = source.path
    with open_source(source) as file:
        lines = split_lines(decode(path, read_blocks(file), encoding, by_rows=True))
        full = ((n, line, ended) for n, (line, ended) in enumerate(lines, 1) if line.strip())
        for number, line, ended in islice(full, *span):
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
            return Bad(f'no "{column}"' if value is None else f'"{column}" is no text', place)
    return _undecoded(cells, "unicode", place) or Row(cells, place)


def _parquet_rows(
    source: Source, columns: Columns, encoding: str, span: Span, raw: frozenset[str]
) -> Iterator[Row | Bad]:
    start, stop = span
    with open_parquet(source) as file:
        known = file.schema_arrow.names
        names = {r: known[position(known, r, c, source.path)] for r, c in columns.items()}
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        begins = [0, *accumulate(sizes)]
        groups = [i for i in range(len(sizes)) if begins[i + 1] > start]
        if not groups:
            return
        wanted = sorted(set(names.values()))
        batches = file.iter_batches(PARQUET_ROWS, row_groups=groups, columns=wanted)
        rows = (row for batch in batches for row in batch.to_pylist())
        skipped = begins[groups[0]]
        left = None if stop is None else max(0, stop - skipped)
        for number, row in enumerate(islice(rows, start - skipped, left), start + 1):
            yield _cells(row, names, f"{source.path}:row {number}", raw)


def _cells(
    row: Mapping[str, Any], names: Mapping[str, str], place: str, raw: Collection[str]
) -> Row | Bad:
    cells = {}
    for role, name in names.items():
        value = row[name]
        cells[role] = value if role in raw else as_text(value)
        if cells[role] is None:
            return Bad(f'no "{name}"' if value is None else f'"{name}" is no text', place)
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


def _undecoded(cells: Mapping[str, Any], encoding: str, place: str) -> Bad | None:
    for cell in cells.values():
        if isinstance(cell, str) and not cell.isascii() and ESCAPED.search(cell):
            return Bad(f"not {encoding} (another encoding? name it in data.encoding)", place)
    return None


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
