"""Token streams to rows of equal length."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PACKED_TOKENS = 1 << 20
"""Tokens gathered before rows are cut from them."""


def token_type(vocabulary_size: int) -> np.dtype[np.uint16] | np.dtype[np.int32]:
    """The smallest type that holds every id."""
    return np.dtype(np.uint16) if vocabulary_size < 1 << 16 else np.dtype(np.int32)


def rows_schema(width: int, dtype: np.dtype[np.uint16] | np.dtype[np.int32]) -> pa.Schema:
    """One column `tokens` of `width` ids, named inside as parquet names it."""
    values = pa.field("element", pa.from_numpy_dtype(dtype), nullable=False)
    return pa.schema([pa.field("tokens", pa.list_(values, width), nullable=False)])


class Packer:
    """Cuts each split's stream into rows of context + 1 tokens that overlap by one."""

    def __init__(self, context: int, vocabulary_size: int) -> None:
        self.context = context
        self.dtype = token_type(vocabulary_size)
        self.schema = rows_schema(context + 1, self.dtype)
        self._held: dict[str, list[NDArray[np.generic]]] = defaultdict(list)
        self._num_held: dict[str, int] = defaultdict(int)

    def add(self, split: str, tokens: NDArray[np.generic]) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Takes the next tokens of a split; yields its rows once enough have come together."""
        self._held[split].append(tokens.astype(self.dtype, copy=False))
        self._num_held[split] += tokens.size
        if self._num_held[split] >= PACKED_TOKENS + self.context:
            yield split, self._cut(split)

    def finish(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The rest of each split, where it is a row or more."""
        for split in list(self._held):
            batch = self._cut(split)
            if batch.num_rows:
                yield split, batch

    def rest(self, split: str) -> NDArray[np.generic]:
        """Tokens that no row holds; the first is the last row's last, where there is a row."""
        return np.concatenate([*self._held.get(split, []), np.empty(0, self.dtype)])

    def _cut(self, split: str) -> pa.RecordBatch:
        stream = np.concatenate(self._held[split])
        num_rows = max(0, (stream.size - 1) // self.context)
        starts = np.arange(num_rows)[:, None] * self.context
        rows = stream[starts + np.arange(self.context + 1)]
        self._held[split] = [stream[num_rows * self.context :]]
        self._num_held[split] = self._held[split][0].size
        return to_batch(rows, self.schema)


def to_batch(rows: NDArray[np.generic], schema: pa.Schema) -> pa.RecordBatch:
    """[rows, width] as a record batch with the column `tokens`."""
    column = schema.field("tokens").type
    values = pa.array(np.ascontiguousarray(rows).reshape(-1), column.value_type)
    return pa.record_batch([pa.FixedSizeListArray.from_arrays(values, type=column)], schema=schema)


def stream_batch(tokens: list[NDArray[np.int32]]) -> pa.RecordBatch:
    """Tokens of a piece as they travel from the encoder to the packer."""
    joined = np.concatenate([*tokens, np.empty(0, np.int32)])
    return pa.record_batch([pa.array(joined, pa.int32())], names=["tokens"])


def pack_all(batches: Iterable[NDArray[np.int32]], packer: Packer) -> Iterator[pa.RecordBatch]:
    """Rows of one stream; what fills no row stays in `packer.rest("")`."""
    for tokens in batches:
        yield from (rows for _, rows in packer.add("", tokens))
    yield from (rows for _, rows in packer.finish())
