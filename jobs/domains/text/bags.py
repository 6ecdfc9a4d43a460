"""The simple model that a text classifier has to beat: weighted bags of tokens and of pairs.

TF-IDF over single tokens and pairs of neighbours, each text scaled to length 1, and logistic
regression on it, as scikit-learn's TfidfVectorizer and LogisticRegression do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MOST_RECORDS = 100_000
"""More records teach a bag of words little, and cost memory."""

Ints = NDArray[np.int64]
Batches = Iterable[Mapping[str, NDArray[Any]]]


def predict(train: Batches, held_back: Batches, num_classes: int) -> tuple[Ints, NDArray[Any], int]:
    """(labels, probabilities [records, classes]) of the held-back records, and the majority class.

    ValueError where the training records are of a single class.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    texts, labels = _features(train)
    unseen, wanted = _features(held_back)
    known = np.unique(texts[1])
    model = LogisticRegression(C=10.0, max_iter=300)
    weights = _weights(texts, len(labels), known)
    idf = np.log((1 + len(labels)) / (1 + np.bincount(weights.indices, minlength=known.size))) + 1
    model.fit(_scaled(weights, idf), labels)
    shares = np.full((len(wanted), num_classes), 1e-12)
    shares[:, model.classes_] = model.predict_proba(
        _scaled(_weights(unseen, len(wanted), known), idf)
    )
    return wanted, shares, int(np.bincount(labels).argmax())


def _features(batches: Batches) -> tuple[tuple[Ints, Ints], Ints]:
    """((record, feature) of every token and pair, labels)."""
    records, features, labels = [], [], []
    done = 0
    for rows in batches:
        tokens, lengths = rows["tokens"].astype(np.int64), rows["tokens_length"]
        inside = np.arange(tokens.shape[1])[None] < lengths[:, None]
        both = inside[:, 1:] if tokens.shape[1] else inside
        pairs = (tokens[:, :-1] + 1 << 32) + tokens[:, 1:]
        numbers = done + np.arange(len(tokens))[:, None]
        records += [np.broadcast_to(numbers, inside.shape)[inside]]
        records += [np.broadcast_to(numbers, both.shape)[both]]
        features += [tokens[inside], pairs[both]]
        labels.append(rows["label"].astype(np.int64))
        done += len(tokens)
        if done >= MOST_RECORDS:
            break
    if not labels:
        raise ValueError("there are no records to compare with")
    return (np.concatenate(records), np.concatenate(features)), np.concatenate(labels)


def _weights(texts: tuple[Ints, Ints], num_records: int, known: Ints) -> csr_matrix:
    """1 + log of how often each known feature is in each record, [records, features]."""
    from scipy.sparse import csr_matrix

    records, features = texts
    places = np.searchsorted(known, features).clip(max=known.size - 1)
    kept = known[places] == features
    shape = (num_records, known.size)
    ones = np.ones(int(kept.sum()))
    counts = csr_matrix((ones, (records[kept], places[kept])), shape=shape)
    counts.sum_duplicates()
    counts.data = 1 + np.log(counts.data)
    return counts


def _scaled(weights: csr_matrix, idf: NDArray[Any]) -> csr_matrix:
    """Weighted by rarity; each record of length 1."""
    from sklearn.preprocessing import normalize

    return normalize(weights.multiply(idf[None]).tocsr())
