"""Upgrades cost nobody a request: an alias moved back and forth under load."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np

from cluster.storage import open_storage
from jobs.bundles import set_alias
from tests.bench.pressure import Seen, pressing
from tests.bench.result import Result, Say
from tests.bench.served import plan
from tests.services import LABELS, Served, publish, serving

CLAIM = "upgrades cost nobody a request"
HOW = (
    "alias moved {moves} times between two versions under load (8 connections, 2 replicas), each "
    "time until both replicas answer with the new one; requests that failed, and answers that are "
    "not those of the version they name (1e-5)"
)
MOVES = 20
HOW = HOW.format(moves=MOVES)
TEXTS = ("open a socket and listen", "read a file", "a much longer text about many things " * 6)
NEAR = 1e-5


def measure(folder: Path, say: Say, moves: int = MOVES) -> Result:
    """Move, wait until it is live everywhere, move back."""
    with serving(folder, {"labels": LABELS | {"serve": {"replicas": 2}}}) as served:
        publish(served.spec, "labels", 2, folder / "labels-2")
        expected = {
            f"{place} labels@{number}": answer_of(served, text, number)
            for place, text in enumerate(TEXTS)
            for number in (1, 2)
        }
        storage = open_storage(served.spec.cluster.storage, served.spec.name)
        bodies = [{"inputs": text} for text in TEXTS]
        waits = []
        with pressing(plan(served, "labels", *bodies, connections=8, seconds=3600)) as found:
            for move in range(moves):
                number = 2 - move % 2
                set_alias(storage, "labels", "production", number, "bench", "back and forth")
                waits.append(until_live(served, number))
                say(f"move {move + 1}: live after {waits[-1]:.1f} s")
        seen = found[0]
    wrong = mistakes(seen, expected)
    failed = sum(n for status, n in seen.statuses.items() if status != "200")
    versions = Counter[str]()
    for key, count in seen.answers.items():
        versions[key.split()[1]] += count
    return Result(
        f"{failed} failed and {wrong} wrong of {sum(seen.statuses.values()):,} over {moves} moves, "
        f"live after {max(waits):.1f} s at most",
        "0 failed, 0 wrong",
        not failed and not wrong and len(versions) == 2,
        {"waits_s": waits, "versions": dict(versions), "errors": seen.errors},
    )


def until_live(served: Served, number: int, in_a_row: int = 12, most_s: float = 30.0) -> float:
    """Seconds until so many answers one after the other are the version's."""
    began, hits = time.monotonic(), 0
    while hits < in_a_row and time.monotonic() - began < most_s:
        answer = served.ask("/models/labels", {"inputs": TEXTS[0]})
        hits = hits + 1 if answer.headers.get("x-model-version") == f"labels@{number}" else 0
    return time.monotonic() - began


def answer_of(served: Served, text: str, number: int) -> dict[str, float]:
    """What a version says when it is asked by its number."""
    [scores] = served.ask(f"/models/labels@{number}", {"inputs": text}).json()
    return {each["label"]: each["score"] for each in scores}


def mistakes(seen: Seen, expected: dict[str, dict[str, float]]) -> int:
    """Answers that differ from those of the version in their header."""
    wrong = 0
    for key, count in seen.answers.items():
        place, version, digest = key.split()
        wanted = expected.get(f"{place} {version}", {})
        found = {each["label"]: each["score"] for each in seen.json(digest)[0]}
        same = set(found) == set(wanted)
        values = [(found[label], wanted[label]) for label in found] if same else []
        near = same and np.allclose(*np.transpose(values), rtol=0, atol=NEAR)
        wrong += 0 if near else count
    return wrong
