"""Texts of different lengths as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.domains import Columns
from jobs.domains.text.vocabulary import Vocabulary

MULTIPLE = 8
"""Batches are as wide as their longest text, rounded up: accelerators compute in blocks. A
processor does not, and takes a quarter longer for 32 tokens than for 25."""


def padded(
    rows: Mapping[str, NDArray[Any]], padding: int, device: torch.device | None = None
) -> dict[str, Tensor]:
    """{"input_ids", "attention_mask"}, int64 [batch, width]; texts first, then padding.

    Of the columns `tokens` [batch, longest] and `tokens_length` [batch], on `device` where one is
    given. No answer depends on the width: padding is masked.
    """
    tokens, lengths = rows["tokens"], rows["tokens_length"]
    multiple = 1 if device is not None and device.type == "cpu" else MULTIPLE
    width = max(multiple, -(-int(lengths.max()) // multiple) * multiple)
    ids = np.full((len(tokens), width), padding, np.int64)
    known = min(width, tokens.shape[1])
    mask = np.arange(width)[None] < lengths[:, None]
    ids[:, :known] = np.where(mask[:, :known], tokens[:, :known], padding)
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)).to(device),
    }


def encoded(vocabulary: Vocabulary, text: str, context: int) -> Columns:
    """One text as one row."""
    tokens = vocabulary.encode_framed(text, context)
    return {"tokens": tokens[None], "tokens_length": np.asarray([tokens.size])}


def joined_rows(rows: Sequence[Columns]) -> Columns:
    """Several batches of rows as one, filled up with 0 to the longest."""
    longest = max(part["tokens"].shape[1] for part in rows)
    joined = {
        name: np.concatenate([part[name] for part in rows]) for name in rows[0] if name != "tokens"
    }
    count = sum(len(part["tokens"]) for part in rows)
    tokens, start = np.zeros((count, longest), rows[0]["tokens"].dtype), 0
    for part in rows:
        own = part["tokens"]
        tokens[start : start + len(own), : own.shape[1]] = own
        start += len(own)
    return {"tokens": tokens} | joined
