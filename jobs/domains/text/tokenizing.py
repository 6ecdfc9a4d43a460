"""Which vocabulary a model reads with: learned from its data, or brought by what it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.domains.text.pretrained import copy_tokenizer, source_of, tokenizer_digest
from jobs.domains.text.vocabulary import (
    Marks,
    Vocabulary,
    train_bpe,
    train_characters,
    train_wordpiece,
)

if TYPE_CHECKING:
    from cluster.spec import ModelSpec

TRAINERS = {"bpe": train_bpe, "character": train_characters, "wordpiece": train_wordpiece}


def tokenizer_settings(model: ModelSpec, pretrained: Path | None) -> dict[str, Any]:
    """What decides the vocabulary besides the texts, for the digest of the data."""
    source = _source(model, pretrained)
    if source is not None:
        return {"pretrained": tokenizer_digest(source)}
    return {"type": model.data.tokenizer.type, "size": model.data.tokenizer.size}


def fit_vocabulary(
    model: ModelSpec,
    pretrained: Path | None,
    marks: Marks,
    texts: Iterable[str],
    folder: Path,
    report: Callable[[str], None],
) -> Vocabulary:
    """The model's vocabulary, written to `folder`; `texts` are read only to learn one."""
    source = _source(model, pretrained)
    if source is not None:
        return copy_tokenizer(source, folder)
    tokenizer = model.data.tokenizer
    report(f"learning a vocabulary of at most {tokenizer.size:,} ({tokenizer.type})")
    return TRAINERS[tokenizer.type](texts, tokenizer.size, folder, marks)


def _source(model: ModelSpec, pretrained: Path | None) -> str | None:
    """What has a tokenizer already: the network to start from, or the folder that is named."""
    path = model.data.tokenizer.path
    return source_of(model.network, pretrained) or (str(path) if path else None)
