"""The simple recogniser that others are held against: a coarse spectrum and logistic regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from jobs.domains.speech.characters import texts_of
from jobs.domains.speech.features import Mels, log_mels, waves_of

MOST_TEXTS = 100
MOST_RECORDS = 5_000
"""Texts that it can tell apart, and recordings that it learns from."""
TIMES, MELS = 16, 32
Batches = Iterable[Mapping[str, NDArray[Any]]]


def nearest_words(
    train: Batches, held_back: Batches, rate: int
) -> tuple[str, list[str], list[str]]:
    """Its name, what was said in the held-back recordings, and what it heard."""
    spectra, texts = _spectra(train, rate, MOST_RECORDS)
    told, said = _spectra(held_back, rate, None)
    frequent = [text for text, _ in Counter(texts).most_common(MOST_TEXTS)]
    known = np.isin(texts, frequent)
    if len(frequent) == 1:
        return "most frequent text", said, frequent * len(said)
    from sklearn.linear_model import LogisticRegression  # slow to import

    mean, deviation = spectra.mean(0), spectra.std(0) + 1e-3
    model = LogisticRegression(max_iter=200, C=0.01)
    model.fit((spectra[known] - mean) / deviation, np.asarray(texts)[known])
    heard = model.predict((told - mean) / deviation).tolist() if len(said) else []
    return "spectrum and logistic regression", said, heard


def _spectra(
    batches: Batches, rate: int, most: int | None
) -> tuple[NDArray[np.float64], list[str]]:
    """[records, TIMES * MELS], each recording stretched to the same number of times."""
    mels = Mels.of(rate, MELS, 0.025, 0.010)
    found: list[NDArray[np.float32]] = [np.zeros((0, TIMES * MELS), np.float32)]
    texts: list[str] = []
    for rows in batches:
        values, frames = log_mels(*waves_of(rows), mels)
        for one, length in zip(values, frames.tolist(), strict=True):
            even = functional.adaptive_avg_pool1d(one[:length].T[None], TIMES)
            found.append((even - even.mean()).reshape(1, -1).numpy())
        texts += texts_of(rows["text"])
        if most is not None and len(texts) >= most:
            break
    return np.concatenate(found).astype(np.float64), texts
