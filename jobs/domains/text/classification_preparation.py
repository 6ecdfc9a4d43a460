"""Preparing labelled texts: from tables to rows of tokens and the number of their label.

Each row holds all tokens of its text between the marks of the vocabulary, cut at the network's
context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from jobs.domains.files import Source
from jobs.domains.records import Bad, Record, RecordPreparation, Row, describe_table, read_table
from jobs.domains.records.tables import SUFFIXES
from jobs.domains.text import builtin
from jobs.domains.text.packing import token_type
from jobs.domains.text.pretrained import context_of, keep_context
from jobs.domains.text.tokenizing import fit_vocabulary, tokenizer_settings
from jobs.domains.text.vocabulary import FRAME, Ids, Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec import DataSpec, ModelSpec
    from cluster.storage import Storage


class ClassificationPreparation(RecordPreparation):
    """See `RecordPreparation`."""

    suffixes: ClassVar[frozenset[str]] = SUFFIXES

    def __init__(
        self, model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
    ) -> None:
        super().__init__(model, pretrained, store)
        self.context = context_of(model.network, pretrained)
        self.vocabulary: Vocabulary | None = None

    def read(
        self, source: Source, start: int = 0, stop: int | None = None
    ) -> Iterator[Record | Bad]:
        return read_labelled(source, self.data, start, stop)

    def describe(self, source: Source) -> dict[str, Any]:
        if source.is_builtin:
            return {"form": "builtin", "encoding": ""}
        return dict(describe_table(source, self.data.encoding))

    def task_settings(self) -> dict[str, Any]:
        settings = {
            "context": self.context,
            "tokenizer": tokenizer_settings(self.model, self.pretrained),
        }
        return settings | ({"ngrams": 2} if self._counts_ngrams else {})

    @property
    def _counts_ngrams(self) -> bool:
        """Whether the network is one that begins with a table of n-grams."""
        return getattr(self.model.network, "type", None) == "lstm"

    def learn(
        self,
        records: Callable[[], Iterator[Record]],
        folder: Path,
        report: Callable[[str], None],
    ) -> None:
        texts = (str(record.content) for record in records())
        self.vocabulary = fit_vocabulary(self.model, self.pretrained, FRAME, texts, folder, report)
        keep_context(folder, self.context)
        if self._counts_ngrams:
            from jobs.domains.text.ngrams import learn_ngrams  # torch, which not all need here

            vocabulary, context = self.vocabulary, self.context
            numbers = {name: i for i, name in enumerate(self.labels)}

            def labelled() -> Iterator[tuple[Ids, int]]:
                for each in records():
                    tokens = vocabulary.encode_framed(str(each.content), context)
                    yield tokens, numbers[str(each.label)]

            report("counting n-grams")
            learn_ngrams(vocabulary, labelled, len(numbers), folder)

    def rows(self, records: Sequence[Record], labels: NDArray[np.int64]) -> pa.RecordBatch:
        assert self.vocabulary is not None
        texts = [str(record.content) for record in records]
        tokens = [self.vocabulary.encode_framed(text, self.context) for text in texts]
        kind = pa.from_numpy_dtype(token_type(self.vocabulary.size))
        return pa.record_batch(
            [ragged(tokens, kind), pa.array(labels, pa.int64())],
            schema=pa.schema(
                [
                    pa.field("tokens", _list_of(kind), nullable=False),
                    pa.field("label", pa.int64(), nullable=False),
                ]
            ),
        )


def read_labelled(
    source: Source, data: DataSpec, start: int = 0, stop: int | None = None
) -> Iterator[Record | Bad]:
    """Texts with labels of a table, or the built-in docstrings with the packages they are from."""
    if source.is_builtin:
        yield from islice(builtin.labelled(source.path), start, stop)
        return
    roles: dict[str, str | int] = {
        "text": data.columns.get("text", "text"),
        "label": data.columns.get("label", "label"),
    }
    roles |= {"group": data.split.by} if data.split.by is not None else {}
    roles |= {"time": data.split.time} if data.split.time is not None else {}
    for row in read_table(source, roles, data.encoding, start, stop):
        yield row if isinstance(row, Bad) else _record(row)


def ragged(tokens: Sequence[Ids], kind: pa.DataType) -> pa.Array:
    """Lists of different lengths as one column, named inside as parquet names it."""
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])]).astype(np.int32)
    values = np.concatenate([*tokens, np.empty(0, np.int32)])
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind), type=_list_of(kind))


def _list_of(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))


def _record(row: Row) -> Record | Bad:
    text, label = row.cells["text"], row.cells["label"].strip()
    if not text.strip():
        return Bad("empty text", row.place)
    if not label:
        return Bad("empty label", row.place)
    group, time = row.cells.get("group"), row.cells.get("time")
    return Record(text, label, group, time, row.place)


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> ClassificationPreparation:
    return ClassificationPreparation(model, pretrained, store)
