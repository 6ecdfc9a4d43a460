"""The domains: what is true of text, images, speech and recommendations, for training and serving.

A domain is plain torch and transformers. `jobs.prepare` calls its `Preparation`, the training
loop, evaluation and export call its `Domain`, serving calls what `load` returns; none of them
knows which domain it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from cluster.spec import ModelSpec

MODULES = {("text", "generation"): "jobs.domains.text.generation"}
"""Each module has `open_domain`, `open_preparation` and `load`."""


class Domain(Protocol):
    """One model's network, loss and metrics; made from its spec and its processor's files."""

    unit: str
    """What throughput counts: "tokens", "images", ..."""

    def network(self) -> nn.Module:
        """A freshly initialised network (from torch's generator), or the pretrained one."""

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """Rows to tensors of the same first size. A seed augments; None is evaluation."""

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean over the batch, differentiable, scalar."""

    def score(self, network: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Sums that add up over batches and ranks; `metrics` reads them. Call without gradients."""

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The task's metrics from summed scores."""

    def count(self, batch: Mapping[str, Tensor]) -> int:
        """Units in the batch."""

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Any user's files as batches of rows for `collate`, through this model's processor."""

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """Write network and processor so that `load` (and plain transformers) read them.

        `network` gives the structure only; the weights and their precision are those of `state`.
        """


class Loaded(Protocol):
    """A trained model that answers requests."""

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request to one answer; ValueError where the request is wrong."""


def open_domain(model: ModelSpec, processor: Path, pretrained: Path | None = None) -> Domain:
    """The domain of a model. `processor` is the prepared data's folder of that name;
    `pretrained` the local folder of the network to start from, where the spec names a version."""
    module = _module(model.domain, model.task)
    return cast(Domain, module.open_domain(model, processor, pretrained))


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
