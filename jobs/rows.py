"""The rows of one split, by index: an Arrow IPC copy on this node, mapped into memory.

The copy is made once per node and data digest from the parquet shards in storage, whose digests
are checked on the way. All processes of a node share the pages of the one file.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]
"""A batch of rows, an array per column: [batch, width] for fixed-size lists, else [batch].

Lists of different lengths are [batch, longest], filled up with 0, and their lengths are a column
NAME_length of their own, int64 [batch].
"""

ROWS_PER_BATCH = 8192


class Download(Protocol):
    """What is needed of a storage to read rows from it."""

    def read_json(self, path: str) -> Any: ...

    def download(self, path: str, local: Path) -> str: ...


class RowsError(ValueError):
    """Prepared data that is missing or no longer matches its manifest."""


class Rows:
    """Rows of a mapped Arrow IPC file. Thread-safe; nothing is copied but what is taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.schema: pa.Schema = reader.schema
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._starts = np.cumsum([0] + [batch.num_rows for batch in batches])
        self._columns = {
            name: [_as_numpy(batch.column(name)) for batch in batches] for name in self.schema.names
        }
        self._ragged = {name for name in self.schema.names if _is_ragged(self.schema, name)}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, indices: NDArray[np.int64]) -> Columns:
        """Rows in the order of `indices` [batch]; IndexError outside 0 <= index < len."""
        if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= len(self)):
            raise IndexError(f"rows are 0 to {len(self) - 1}, asked for {indices.tolist()}")
        batches = np.searchsorted(self._starts, indices, side="right") - 1
        places = list(
            zip(batches.tolist(), (indices - self._starts[batches]).tolist(), strict=True)
        )
        taken: Columns = {}
        for name, parts in self._columns.items():
            if name in self._ragged:
                taken[name], taken[f"{name}_length"] = _pad(parts, places)
            else:
                taken[name] = _gather(parts, places)
        return taken

    def lengths(self, name: str, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """How long the lists of one column are in these rows, [batch]; nothing else is read."""
        batches = np.searchsorted(self._starts, indices, side="right") - 1
        found = np.zeros(len(indices), np.int64)
        for batch in np.unique(batches).tolist():
            own = batches == batch
            offsets, _ = self._columns[name][batch]
            places = indices[own] - self._starts[batch]
            found[own] = offsets[places + 1] - offsets[places]
        return found

    def slice(self, start: int, stop: int) -> Columns:
        """Rows start <= i < stop (fewer at the end), in order."""
        return self.take(np.arange(start, min(stop, len(self)), dtype=np.int64))


def open_rows(storage: Download, digest: str, split: str, cache: Path | None = None) -> Rows:
    """Open a split ("train", "validation", "test") of prepared data; makes the node's copy first.

    Raises RowsError where the split has no rows or a shard does not match the manifest.
    """
    folder = (cache or cache_folder()) / "rows" / digest
    path = folder / f"{split}.arrow"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{split}.lock"):
            if not path.exists():
                _build(storage, digest, split, path)
    return Rows(path)


def cache_folder() -> Path:
    """$SLIPWAY_CACHE, or ~/.cache/slipway: what can be made again, kept on this node."""
    return Path(os.environ.get("SLIPWAY_CACHE") or "~/.cache/slipway").expanduser()


def _build(storage: Download, digest: str, split: str, path: Path) -> None:
    manifest = storage.read_json(f"data/{digest}/manifest.json")
    shards = {n: f for n, f in manifest["files"].items() if n.startswith(f"{split}/")}
    if not shards:
        raise RowsError(f'the data has no rows in its {split} split; see "data.split" in the YAML')
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{split}-") as scratch:
        local, copy = Path(scratch, "shard.parquet"), Path(scratch, "rows.arrow")
        writer = None
        for name in sorted(shards):
            _fetch(storage, f"data/{digest}/{name}", local, shards[name]["sha256"])
            file = pq.ParquetFile(local)
            writer = writer or pa.ipc.new_file(str(copy), file.schema_arrow)
            for batch in file.iter_batches(batch_size=ROWS_PER_BATCH):
                writer.write_batch(batch)
            file.close()
        assert writer is not None
        writer.close()
        os.replace(copy, path)


def _fetch(storage: Download, path: str, local: Path, expected: str) -> None:
    storage.download(path, local)
    with local.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise RowsError(
            f"{path} changed since it was written (sha256 {found[:12]}, manifest {expected[:12]}); "
            'remove the folder and run "slipway prepare" again'
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_ragged(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _as_numpy(column: pa.Array) -> Any:
    """A view of fixed-width values, [rows, width] for fixed-size lists.

    For lists of different lengths (offsets [rows + 1], values).
    """
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=True)
    if pa.types.is_fixed_size_list(column.type):
        values: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=True)
        return values.reshape(len(column), column.type.list_size)
    if pa.types.is_primitive(column.type):
        plain: NDArray[Any] = column.to_numpy(zero_copy_only=not pa.types.is_boolean(column.type))
        return plain
    raise RowsError(f"rows cannot hold a column of type {column.type}")


def _gather(parts: list[NDArray[Any]], places: list[tuple[int, int]]) -> NDArray[Any]:
    first = parts[0]
    taken = np.empty((len(places), *first.shape[1:]), dtype=first.dtype)
    for i, (batch, row) in enumerate(places):
        taken[i] = parts[batch][row]
    return taken


def _pad(parts: list[Any], places: list[tuple[int, int]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lists filled up with 0 to the longest of them, and their lengths."""
    taken = []
    for batch, row in places:
        offsets, values = parts[batch]
        taken.append(values[offsets[row] : offsets[row + 1]])
    lengths = np.asarray([len(values) for values in taken], np.int64)
    padded = np.zeros((len(taken), int(lengths.max(initial=0))), parts[0][1].dtype)
    for values, into in zip(taken, padded, strict=True):
        into[: len(values)] = values
    return padded, lengths


def remove_rows(digest: str, cache: Path | None = None) -> None:
    """Remove this node's copies of prepared data."""
    shutil.rmtree((cache or cache_folder()) / "rows" / digest, ignore_errors=True)
