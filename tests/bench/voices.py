"""What a recogniser that learned from real recordings hears when a trained voice speaks."""

from __future__ import annotations

import base64
from typing import Any

from cluster.storage import Storage
from jobs.bundles import fetch_bundle, resolve
from jobs.domains import load
from jobs.domains.speech.characters import spoken, texts_of
from jobs.domains.speech.transcripts import errors_of, metrics_of
from jobs.prepared import PreparedData

READ_IN_ORDER = "read in order"


def figures_of(storage: Storage, voice: str, judge: str) -> dict[str, float]:
    """Shares of the voice's test sentences that were read in order, and that were recognised.

    With them the judge's word error rate. Each sentence is spoken in each of its speakers' voices,
    through the answers that serving gives.
    """
    said, heard = [], []
    speaks, hears = (_answers(storage, name) for name in (voice, judge))
    for text, speaker in _sentences(storage, voice):
        parameters = {"speaker": speaker} if speaker else {}
        sound = speaks.answer({"inputs": text, "parameters": parameters})
        answer = hears.answer({"inputs": base64.b64decode(sound["audio"])})
        said.append(spoken(text))
        heard.append(answer["text"])
    found = errors_of(said, heard)
    return {
        READ_IN_ORDER: _read_in_order(storage, voice),
        "recognised": float((found["word_errors"] == 0).mean()),
        "judged wer": metrics_of(found)["wer"],
    }


def _answers(storage: Storage, model: str) -> Any:
    version = resolve(storage, model)
    return load("speech", version.bundle["task"], fetch_bundle(storage, version))


def _sentences(storage: Storage, voice: str) -> list[tuple[str, str]]:
    """Texts and speakers of the test part, each pair once."""
    rows = PreparedData(storage, resolve(storage, voice).bundle["data"]).rows("test")
    assert rows is not None
    held = rows.slice(0, len(rows))
    pairs = zip(texts_of(held["text"]), texts_of(held["speaker"]), strict=True)
    return sorted(set(pairs))


def _read_in_order(storage: Storage, voice: str) -> float:
    """As the evaluation of its test part tells it."""
    evaluation = resolve(storage, voice).held_back
    assert evaluation is not None
    rows = [row for detail in evaluation["details"] for row in detail.get("rows", [])]
    return float(next(row[1] for row in rows if str(row[0]).startswith(READ_IN_ORDER)))
