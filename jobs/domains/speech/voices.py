"""What every synthesis measures and shows, from its outcomes alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.domains import Outcomes
from jobs.domains.details import Detail, Table
from jobs.domains.speech.attention import DIAGONAL


def metrics_of(outcomes: Outcomes) -> dict[str, float]:
    """Means over the records; ValueError where there is none."""
    if not len(outcomes["loss"]):
        raise ValueError("there is no sentence to score")
    return {name: float(outcomes[name].mean()) for name in ("mel_loss", "alignment", "loss")}


def is_diagonal(outcomes: Outcomes) -> NDArray[np.bool_]:
    """Sentences that were read in order, and ended by themselves."""
    found: NDArray[np.bool_] = (outcomes["alignment"] >= DIAGONAL) & (outcomes["stopped"] > 0)
    return found


def details_of(outcomes: Outcomes) -> list[Detail]:
    """How sentences were read, and each speaker's figures."""
    longer = outcomes["frames"] / np.maximum(outcomes["recorded"], 1)
    rows: list[tuple[str, float]] = [
        (f"read in order (alignment of {DIAGONAL} and more, ended by itself)",
         float(is_diagonal(outcomes).mean())),
        ("ended by itself", float((outcomes["stopped"] > 0).mean())),
        ("length beside the recording, median", float(np.median(longer))),
    ]  # fmt: skip
    found: list[Detail] = [Table("Sentences, spoken without the recording", ["", "share"], rows)]
    names = np.unique(outcomes["speaker"]).tolist()
    if names != [""]:
        columns = ["speaker", "sentences", "mel_loss", "alignment"]
        own = [outcomes["speaker"] == name for name in names]
        figures = [
            (name, int(at.sum()), *(float(outcomes[k][at].mean()) for k in columns[2:]))
            for name, at in zip(names, own, strict=True)
        ]
        found.append(Table("Speakers", columns, figures))
    return found


def worst_of(outcomes: Outcomes, count: int) -> NDArray[np.int64]:
    """Places of the sentences with the least alignment, then the highest mel_loss."""
    return np.lexsort((-outcomes["mel_loss"], outcomes["alignment"]))[:count]


def notes_of(outcomes: Outcomes) -> list[str]:
    """A line a sentence."""
    return [
        f"spoken: alignment {alignment:.2f}, mel_loss {loss:.2f}, "
        + ("ended by itself" if stopped else "never ended")
        for alignment, loss, stopped in zip(
            outcomes["alignment"].tolist(),
            outcomes["mel_loss"].tolist(),
            outcomes["stopped"].tolist(),
            strict=True,
        )
    ]
