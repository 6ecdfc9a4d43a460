"""Which tokens of a row are hidden, and by what (Devlin et al., 2018, section 3.1)."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.domains.text.vocabulary import Ids, Vocabulary

SHARE = 0.15
MASKED, REPLACED = 0.8, 0.1
"""Of the hidden tokens so many become the mask and so many another token; the rest stay."""

Ints = NDArray[np.int64]


def hide(tokens: Ints, vocabulary: Vocabulary, seed: int | None) -> tuple[Ints, NDArray[Any]]:
    """(what the network sees, which tokens it must guess), [batch, width] each.

    A function of the rows and the seed. Without a seed it is one of each row alone, so that a row
    is scored the same in every batch and after every step. Marks are never hidden; of each row
    that holds anything else, one token at least is.
    """
    draws = _draws(tokens, seed)
    mask = vocabulary.mask
    if mask is None:
        raise ValueError("the vocabulary has no mask token; masked-lm needs one")
    draws[0][np.isin(tokens, vocabulary.marks)] = 2.0
    lowest = draws[0].min(1, keepdims=True)
    hidden = (draws[0] < SHARE) | ((draws[0] == lowest) & (lowest < 2.0))
    plain = _plain(vocabulary)
    others = plain[(draws[2] * plain.size).astype(np.int64)]
    seen = np.where(draws[1] < MASKED, mask, np.where(draws[1] < MASKED + REPLACED, others, tokens))
    return np.where(hidden, seen, tokens), hidden


def _draws(tokens: Ints, seed: int | None) -> NDArray[np.float64]:
    """Three numbers in [0, 1) for every token, [3, batch, width]."""
    if seed is not None:
        return np.random.default_rng(seed).random((3, *tokens.shape))
    keys = [zlib.crc32(row.tobytes()) for row in tokens.astype(np.int32)]
    rows = [np.random.default_rng(key).random((3, tokens.shape[1])) for key in keys]
    return np.stack(rows, 1)


def _plain(vocabulary: Vocabulary) -> Ids:
    """The ids of all tokens that a text may have."""
    return np.setdiff1d(np.arange(vocabulary.size, dtype=np.int32), vocabulary.marks)
