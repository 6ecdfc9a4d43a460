"""What every classification measures and shows, from labels, predictions and losses alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.domains import Outcomes
from jobs.domains.details import Detail, Matrix, Table

TOP = 5
SHOWN_CLASSES = 50
"""A confusion matrix of more classes is left to its most frequent ones."""


def outcomes_of(logits: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What became of each record, from logits [records, classes] and labels [records].

    Columns: label, predicted, nats (the loss) and confidence (probability of what was predicted).
    """
    values = logits.astype(np.float64)
    shifted = values - values.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    own = np.take_along_axis(logs, labels[:, None], 1)
    return {
        "label": labels.astype(np.int64),
        "predicted": logs.argmax(1),
        "nats": -own[:, 0],
        "confidence": np.exp(logs.max(1)),
    }


def rank_of(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes that were thought likelier than the label, [records]: the column `rank`."""
    ranks: NDArray[np.int64] = (logits > np.take_along_axis(logits, labels[:, None], 1)).sum(1)
    return ranks


def confusion(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Counts by label and by prediction, [classes, classes]."""
    places = labels * num_classes + predicted
    return np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def metrics_of(outcomes: Outcomes, num_classes: int) -> dict[str, float]:
    """macro_f1, accuracy, macro recall, top_5 and loss (nats), where their columns are there.

    Means over classes are over those that occur: among the labels for recall, among labels or
    predictions for F1, as in scikit-learn. ValueError where there is no record.
    """
    labels, predicted = outcomes["label"], outcomes["predicted"]
    if not len(labels):
        raise ValueError("there is no record to score")
    hits, wanted, given = _counts(labels, predicted, num_classes)
    metrics = {
        "macro_f1": float((2 * hits / np.maximum(wanted + given, 1))[wanted + given > 0].mean()),
        "accuracy": float(hits.sum() / len(labels)),
        "recall": float((hits / np.maximum(wanted, 1))[wanted > 0].mean()),
    }
    if "rank" in outcomes:
        metrics[f"top_{TOP}"] = float((outcomes["rank"] < TOP).mean())
    if "nats" in outcomes:
        metrics["loss"] = float(outcomes["nats"].mean())
    return metrics


def details_of(outcomes: Outcomes, names: Sequence[str]) -> list[Detail]:
    """Precision, recall and F1 of each class, and the confusion matrix."""
    labels, predicted = outcomes["label"], outcomes["predicted"]
    hits, wanted, given = _counts(labels, predicted, len(names))
    rows = [
        (name, int(n), hit / max(g, 1), hit / max(n, 1), 2 * hit / max(n + g, 1))
        for name, hit, n, g in zip(names, *(c.tolist() for c in (hits, wanted, given)), strict=True)
    ]
    table = Table("Classes", ["class", "records", "precision", "recall", "F1"], rows)
    counts = confusion(labels, predicted, len(names))
    kept = np.sort(np.argsort(-(wanted + given), kind="stable")[:SHOWN_CLASSES])
    title = "Confusion: label by prediction"
    if len(kept) < len(names):
        title += f", the {SHOWN_CLASSES} most frequent of {len(names)} classes"
    matrix = Matrix(title, [names[i] for i in kept], counts[np.ix_(kept, kept)].tolist())
    return [table, matrix]


def worst_of(outcomes: Outcomes, count: int) -> NDArray[np.int64]:
    """Places of up to `count` wrong predictions, the surest first (by the label's loss)."""
    order = np.argsort(-outcomes["nats"], kind="stable")
    wrong = outcomes["label"] != outcomes["predicted"]
    found: NDArray[np.int64] = order[wrong[order]][:count]
    return found


def notes_of(outcomes: Outcomes, names: Sequence[str]) -> list[str]:
    """A line a record, such as "sports, predicted business 0.93"."""
    return [
        f"{names[label]}, predicted {names[guess] if guess != label else 'so'} {confidence:.2f}"
        for label, guess, confidence in zip(
            outcomes["label"].tolist(),
            outcomes["predicted"].tolist(),
            outcomes["confidence"].tolist(),
            strict=True,
        )
    ]


def ranked(logits: NDArray[Any], names: Sequence[str], top: int | None) -> list[dict[str, Any]]:
    """An answer in Hugging Face's shape, the likeliest first, from one record's logits [classes].

    {"label", "score"} of the `top` classes, of all where it is None.
    """
    shares = np.exp(logits.astype(np.float64) - float(logits.max()))
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")[:top]
    return [{"label": names[i], "score": float(shares[i])} for i in order]


def _counts(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Right predictions, records and predictions of each class, [classes] each."""
    return (
        np.bincount(labels[labels == predicted], minlength=num_classes),
        np.bincount(labels, minlength=num_classes),
        np.bincount(predicted, minlength=num_classes),
    )
