"""Killing a replica, the proxy or the controller costs clients nothing."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.pressure import Seen, pressing
from tests.bench.result import Result, Say
from tests.bench.served import plan, processes
from tests.services import LABELS, serving

CLAIM = "killed processes cost clients nothing"
HOW = (
    "kill -9 of a replica (of two), of HAProxy and of Serve's controller under load (8 "
    "connections), bodies of 0.1 and 40 KB; requests that failed for clients that ask once more "
    "half a second after a connection error or 5xx, and the longest time without an answer"
)
VICTIMS = {
    "replica": "ray::ServeReplica:labels:",
    "proxy": "haproxy -db",
    "controller": "ray::ServeController",
}
SIZES = (100, 40_000)
MOST_S = 30.0


def measure(folder: Path, say: Say, after_s: float = 25.0) -> Result:
    """One kill after the other, each under a load of its own."""
    found: dict[str, dict[str, Any]] = {}
    with serving(folder, {"labels": LABELS | {"serve": {"replicas": 2}}}) as served:
        for victim, name in VICTIMS.items():
            for size in SIZES:
                body = {"inputs": "open a socket " * (size // 14)}
                load = plan(served, "labels", body, connections=8, seconds=3600, retry=True)
                with pressing(load) as seen:
                    time.sleep(4)
                    os.kill(processes(served, name)[0].pid, signal.SIGKILL)
                    killed = time.monotonic()
                    time.sleep(after_s)
                found[f"{victim}, {size} B"] = summary(seen[0])
                say(f"{victim} at {size} B: {found[f'{victim}, {size} B']}")
                wait_for(served, name, killed)
    failed = sum(each["failed"] for each in found.values())
    gaps = {case: each["longest_gap_s"] for case, each in found.items()}
    worst = max(gaps, key=lambda case: gaps[case])
    return Result(
        f"{failed} failed of {sum(each['answers'] for each in found.values()):,}; longest without "
        f"an answer {gaps[worst]:.1f} s ({worst})",
        f"0 failed; below {MOST_S:.0f} s",
        not failed and gaps[worst] < MOST_S,
        {"kills": found},
    )


def wait_for(served: Any, name: str, killed: float) -> None:
    """Until the next one is there, so that the next kill meets a whole service."""
    while not processes(served, name) and time.monotonic() - killed < 60:
        time.sleep(0.5)
    time.sleep(3)


def summary(seen: Seen) -> dict[str, Any]:
    """Failures, and the longest time between two answers."""
    ends = sorted(sent + ms / 1e3 for sent, ms in zip(seen.sent, seen.ms, strict=True))
    gaps = [after - before for before, after in pairwise(ends)]
    return {
        "answers": len(ends),
        "failed": sum(n for status, n in seen.statuses.items() if status != "200"),
        "retried": seen.retried,
        "longest_gap_s": max([*gaps, seen.seconds - ends[-1]] if ends else [seen.seconds]),
        "errors": seen.errors[:5],
    }
