"""Preparing text for a masked language model: packed as for generation, with an encoder's marks.

Rows hold context - 1 tokens: the network puts its first mark before them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.domains.files import DataError
from jobs.domains.text.documents import SUFFIXES
from jobs.domains.text.preparation import GenerationPreparation
from jobs.domains.text.pretrained import context_of, keep_context
from jobs.domains.text.vocabulary import FRAME

if TYPE_CHECKING:
    from cluster.spec import ModelSpec
    from cluster.storage import Storage

__all__ = ["SUFFIXES", "MaskedPreparation", "open_preparation", "row_context"]


class MaskedPreparation(GenerationPreparation):
    """See `jobs.domains.Preparation`."""

    marks = FRAME

    def __init__(
        self, model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
    ) -> None:
        super().__init__(model, pretrained, store)
        self.context = row_context(context_of(model.network, pretrained))

    def fit(self, folder: Path, report: Callable[[str], None]) -> None:
        super().fit(folder, report)
        assert self.vocabulary is not None
        if self.vocabulary.mask is None:
            raise DataError("network.pretrained: its tokenizer has no mask token to guess under")
        keep_context(folder, context_of(self.model.network, self.pretrained))


def row_context(context: int) -> int:
    """The packer's context: its rows are one longer, and the first mark takes another place."""
    if context < 3:
        raise ValueError(f"network.context: {context} holds no text; use 3 or more")
    return context - 2


def open_preparation(
    model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
) -> MaskedPreparation:
    return MaskedPreparation(model, pretrained, store)
