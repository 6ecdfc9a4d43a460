"""The domains: what is true of text, images, speech and recommendations, for training and serving.

A domain is plain torch and transformers. `jobs.prepare` calls its `Preparation`, the training
loop, evaluation and export call its `Domain`, serving calls what `load` returns; none of them
knows which domain it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import pyarrow as pa

from jobs.domains.details import Detail, Shown
from jobs.domains.files import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from cluster.spec import ModelSpec
    from cluster.storage import Storage

MODULES = {
    ("text", "generation"): "jobs.domains.text.generation",
    ("text", "masked-lm"): "jobs.domains.text.masked",
    ("text", "classification"): "jobs.domains.text.classification",
    ("vision", "classification"): "jobs.domains.vision.classification",
    ("speech", "synthesis"): "jobs.domains.speech.synthesis",
    ("speech", "recognition"): "jobs.domains.speech.recognition",
    ("recommendation", "next-item"): "jobs.domains.recommendation.next_item",
    ("recommendation", "rating"): "jobs.domains.recommendation.rating",
}
"""Each module has `open_domain` and `load`."""
PREPARATIONS = {
    ("text", "generation"): "jobs.domains.text.preparation",
    ("text", "masked-lm"): "jobs.domains.text.masked_preparation",
    ("text", "classification"): "jobs.domains.text.classification_preparation",
    ("vision", "classification"): "jobs.domains.vision.preparation",
    ("speech", "synthesis"): "jobs.domains.speech.preparation",
    ("speech", "recognition"): "jobs.domains.speech.preparation",
    ("recommendation", "next-item"): "jobs.domains.recommendation.next_item_preparation",
    ("recommendation", "rating"): "jobs.domains.recommendation.rating_preparation",
}
"""Each module has `open_preparation`, and imports no torch: it runs in short-lived processes."""


Columns = dict[str, "NDArray[Any]"]
"""Rows, an array per column, as `jobs.rows` gives them."""
Outcomes = Mapping[str, "NDArray[Any]"]
"""An array per measure, whose first size is the number of records."""


@dataclass(frozen=True)
class Block:
    """Encoded records of one split, in order, with what they count for in the manifest."""

    split: str
    rows: pa.RecordBatch
    counts: dict[str, int]


class Preparation(Protocol):
    """From a user's files to rows; picklable, so that `encode` runs in many processes.

    The calls come in the order of the methods. All raise DataError for what a user can mend.
    """

    def sources(self) -> list[Source]:
        """The files, in an order that does not change."""

    def settings(self) -> dict[str, Any]:
        """The parts of the spec that decide what the rows are, for the digest of the data."""

    def inspect(self, source: Source) -> dict[str, Any]:
        """Reads a file once; JSON with at least "sha256". Depends on nothing but the file,
        `settings` and the Python that runs."""

    def plan(self, inspections: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Divides the work of all files into `num_pieces`; what the manifest says of it."""

    num_pieces: int
    """Parts that can be encoded apart, in order."""

    def fit(self, folder: Path, report: Callable[[str], None]) -> None:
        """Learns from the training split (a vocabulary, labels); writes the processor's files."""

    def encode(self, piece: int) -> Iterator[Block]:
        """The rows or values of one piece; the only part that runs in other processes."""

    def pack(self, blocks: Iterable[Block]) -> Iterator[tuple[str, pa.RecordBatch]]:
        """(split, rows) for the shards, in memory that does not grow with the data."""

    def counts(self) -> dict[str, dict[str, int]]:
        """Per split what was packed: "rows" and the domain's own. DataError where too little."""


class Domain(Protocol):
    """One model's network, loss and metrics; made from its spec and its processor's files."""

    unit: str
    """What throughput counts: "tokens", "images", ..."""
    labels: list[str] | None
    """The names of the classes; None where the task has none."""
    batched_by: str | None
    """The column of lists by whose length training rows come together; None: as they are drawn."""

    def network(self) -> nn.Module:
        """A freshly initialised network (from torch's generator), or the pretrained one."""

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """Rows to tensors of the same first size. A seed augments; None is evaluation."""

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean over the batch, differentiable, scalar."""

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """What became of each record: arrays whose first size is the records of the batch.

        Call without gradients.
        """

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """The task's metrics over the outcomes of all records, in any order.

        Intervals call it for hundreds of resampled sets: it must be quick.
        """

    def details(self, outcomes: Outcomes) -> list[Detail]:
        """What a report shows beyond the metrics: figures of each class, a confusion matrix."""

    def worst(self, outcomes: Outcomes, count: int) -> NDArray[np.int64]:
        """Up to `count` places in the outcomes of what went wrong most, the worst first."""

    def show(self, rows: Columns, outcomes: Outcomes) -> list[Shown]:
        """Records and what became of them, for a person to look at."""

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """A simple model of the same rows, by its "name", and its metrics on the held-back ones."""

    def count(self, batch: Mapping[str, Tensor]) -> int:
        """Units in the batch."""

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Any user's files as batches of rows for `collate`, through this model's processor."""

    def flops(self, network: nn.Module) -> float:
        """Floating-point operations of training on one unit, forward and backward."""

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """Write network and processor so that `load` (and plain transformers) read them.

        `network` gives the structure only; the weights and their precision are those of `state`.
        """


class Loaded(Protocol):
    """A trained model that answers requests."""

    def row(self, request: Mapping[str, Any]) -> Columns:
        """One request as one row that `collate` takes; ValueError where it is wrong."""

    def answers(self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]) -> list[Any]:
        """An answer to each of several requests, computed together; `rows` are those of `row`."""

    def answer(self, request: Mapping[str, Any]) -> Any:
        """One request to one answer; ValueError where the request is wrong."""


@runtime_checkable
class Settles(Protocol):
    """A trained model that can make itself ready for many requests."""

    def settle(self) -> None:
        """Take a moment now, for less with each request."""


def open_domain(model: ModelSpec, processor: Path, pretrained: Path | None = None) -> Domain:
    """The domain of a model. `processor` is the prepared data's folder of that name;
    `pretrained` the local folder of the network to start from, where the spec names a version."""
    module = _module(model.domain, model.task)
    return cast(Domain, module.open_domain(model, processor, pretrained))


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> Preparation:
    """How the data of a model is prepared; arguments as in `open_domain`. Loads no torch.

    Sources in the bucket of `store` are reached with its endpoint and credentials.
    """
    module = import_module(PREPARATIONS[model.domain, model.task])
    return cast(Preparation, module.open_preparation(model, pretrained, store))


def suffixes_of(domain: str, task: str) -> frozenset[str]:
    """Suffixes of the files that a task reads from folders."""
    return cast(frozenset[str], import_module(PREPARATIONS[domain, task]).SUFFIXES)


def load(domain: str, task: str, folder: Path, device: str = "cpu") -> Loaded:
    """Load a saved model from its folder for answering."""
    return cast(Loaded, _module(domain, task).load(folder, device))


def _module(domain: str, task: str) -> Any:
    try:
        return import_module(MODULES[domain, task])
    except KeyError:
        raise ValueError(
            f"{domain} {task} is not available in this version; available: "
            + ", ".join(" ".join(pair) for pair in MODULES)
        ) from None
