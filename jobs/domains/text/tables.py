"""Documents in the rows of JSONL, CSV, TSV and parquet files."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise

from jobs.domains.encodings import decode, read_blocks
from jobs.domains.files import open_source
from jobs.domains.records.delimited import split_lines
from jobs.domains.records.record import Bad
from jobs.domains.records.tables import Row, json_row, open_parquet, read_table
from jobs.domains.text.records import Document, Reading


def read_jsonl(reading: Reading, start: int, stop: int) -> Iterator[Document | Bad]:
    """One JSON object a line, in the bytes start <= i < stop."""
    path, columns = reading.source.path, {"text": reading.layout.column}
    encoding = "utf-8" if start and reading.encoding == "utf-8-sig" else reading.encoding
    with open_source(reading.source) as file:
        if start:
            file.seek(start)
        blocks = read_blocks(file, stop - start if stop >= 0 else -1)
        lines = split_lines(decode(path, blocks, encoding, start, by_rows=True))
        for number, (line, ended) in enumerate(lines, 1):
            if line.strip():
                row = _document(json_row(line, ended, columns, path, f"{path}:{number}"))
                yield replace(row, after=start) if start else row


def read_rows(reading: Reading, start: int, stop: int) -> Iterator[Document | Bad]:
    """Rows start <= i < stop of a CSV, TSV or parquet file; stop -1: to the end."""
    columns = {"text": reading.layout.column}
    end = None if stop < 0 else stop
    for row in read_table(reading.source, columns, reading.encoding or "auto", start, end):
        yield _document(row)


def parquet_spans(reading: Reading) -> list[tuple[int, int]]:
    """The rows of each row group."""
    with open_parquet(reading.source) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    return list(pairwise([0, *accumulate(sizes)]))


def _document(row: Row | Bad) -> Document | Bad:
    return row if isinstance(row, Bad) else Document(row.cells["text"], place=row.place)
