"""Rows to parquet shards of about 64 MB, the same bytes for the same rows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SHARD_BYTES = 64 << 20
GROUP_ROWS = 8192


class Shards:
    """Writes <folder>/<split>/part-00000.parquet, part-00001, ... as rows come."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.columns: dict[str, pa.DataType] = {}
        self._writers: dict[str, Any] = {}
        self._bytes: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def write(self, split: str, rows: pa.RecordBatch) -> None:
        """Appends rows to a split."""
        self.columns = {field.name: field.type for field in rows.schema}
        if split not in self._writers:
            self._writers[split] = self._open(split, rows.schema)
        self._writers[split].write_batch(rows, row_group_size=GROUP_ROWS)
        self._bytes[split] = self._bytes.get(split, 0) + rows.nbytes
        if self._bytes[split] >= SHARD_BYTES:
            self._close(split)

    def close(self) -> None:
        """Ends the files that are open."""
        for split in list(self._writers):
            self._close(split)

    def _open(self, split: str, schema: pa.Schema) -> Any:
        number = self._counts.get(split, 0)
        self._counts[split] = number + 1
        path = self.folder / split / f"part-{number:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False)

    def _close(self, split: str) -> None:
        self._writers.pop(split).close()
        self._bytes.pop(split, None)
