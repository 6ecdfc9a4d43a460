"""What every recognition measures and shows, from what was said and what was heard alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray

from jobs.domains import Outcomes
from jobs.domains.details import Detail, Table

MOST_SPEAKERS = 100
MOST_CONFUSIONS = 20


def errors_of(said: Sequence[str], heard: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Of each record: edits that make one of the other, in words and in characters, and sizes.

    With them the texts themselves, `said` and `heard`. No text of `said` may be empty.
    """
    words = [jiwer.process_words(a, b) for a, b in zip(said, heard, strict=True)]
    letters = [jiwer.process_characters(a, b) for a, b in zip(said, heard, strict=True)]
    return {
        "said": np.asarray(said, np.str_),
        "heard": np.asarray(heard, np.str_),
        "words": np.asarray([len(text.split()) for text in said], np.int64),
        "word_errors": np.asarray([_edits(found) for found in words], np.int64),
        "characters": np.asarray([len(text) for text in said], np.int64),
        "character_errors": np.asarray([_edits(found) for found in letters], np.int64),
    }


def metrics_of(outcomes: Outcomes) -> dict[str, float]:
    """wer and cer over all words and characters, and loss (nats per character, mean of records).

    ValueError where there is no record.
    """
    words, characters = int(outcomes["words"].sum()), int(outcomes["characters"].sum())
    if not words:
        raise ValueError("there is no word to score")
    metrics = {
        "wer": float(outcomes["word_errors"].sum() / words),
        "cer": float(outcomes["character_errors"].sum() / characters),
    }
    if "nats" in outcomes:
        metrics["loss"] = float(outcomes["nats"].mean())
    return metrics


def details_of(outcomes: Outcomes) -> list[Detail]:
    """Error rates of each speaker, where the data names them, and words that were misheard."""
    found: list[Detail] = []
    names = np.unique(outcomes["speaker"])
    if names.tolist() not in ([], [""]):
        rows = [_speaker(outcomes, str(name)) for name in names[:MOST_SPEAKERS]]
        rows.sort(key=lambda row: -float(row[2]))
        columns = ["speaker", "records", "word error rate", "character error rate"]
        found.append(Table("Speakers, the worst first", columns, rows))
    confusions = _confusions(outcomes)
    if confusions:
        found.append(Table("Words misheard most often", ["said", "heard", "times"], confusions))
    return found


def worst_of(outcomes: Outcomes, count: int) -> NDArray[np.int64]:
    """Places of up to `count` records with errors, by their character error rate."""
    rates = outcomes["character_errors"] / np.maximum(outcomes["characters"], 1)
    order = np.argsort(-rates, kind="stable")
    return order[outcomes["character_errors"][order] > 0][:count]


def _edits(found: Any) -> int:
    return int(found.substitutions + found.deletions + found.insertions)


def _speaker(outcomes: Outcomes, name: str) -> tuple[str, int, float, float]:
    own = outcomes["speaker"] == name
    metrics = metrics_of({k: values[own] for k, values in outcomes.items()})
    return name or "(none)", int(own.sum()), metrics["wer"], metrics["cer"]


def _confusions(outcomes: Outcomes) -> list[tuple[str, str, int]]:
    counts: Counter[tuple[str, str]] = Counter()
    for said, heard in zip(outcomes["said"].tolist(), outcomes["heard"].tolist(), strict=True):
        if said == heard:
            continue
        found = jiwer.process_words(said, heard)
        a, b = found.references[0], found.hypotheses[0]
        for chunk in found.alignments[0]:
            if chunk.type != "equal":
                gone = " ".join(a[chunk.ref_start_idx : chunk.ref_end_idx])
                come = " ".join(b[chunk.hyp_start_idx : chunk.hyp_end_idx])
                counts[gone or "(nothing)", come or "(nothing)"] += 1
    return [(a, b, n) for (a, b), n in counts.most_common(MOST_CONFUSIONS)]
