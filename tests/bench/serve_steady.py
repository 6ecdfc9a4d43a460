"""Memory stays what it was: half an hour of load."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from tests.bench.pressure import pressing
from tests.bench.result import Result, Say
from tests.bench.served import plan, processes
from tests.services import LABELS, Served, serving

CLAIM = "memory stays what it was under load"
HOW = (
    "30 minutes of load (8 connections, 2 replicas; MINUTES=10: so many): resident memory of "
    "HAProxy, its manager, the controller, the front and the replicas, the mean of the last minute "
    "against that after five minutes (a sixth of a shorter time)"
)
MINUTES, WARM, MOST_GROWTH = 30.0, 1 / 6, 0.02
KINDS = {
    "haproxy": "haproxy -db",
    "proxy manager": "ray::HAProxyManager",
    "controller": "ray::ServeController",
    "front": "ray::ServeReplica:front:",
    "replicas": "ray::ServeReplica:labels:",
}


def measure(folder: Path, say: Say, minutes: float | None = None) -> Result:
    """Sample every five seconds."""
    minutes = minutes or float(os.environ.get("MINUTES", MINUTES))
    samples: list[tuple[float, dict[str, int]]] = []
    with serving(folder, {"labels": LABELS | {"serve": {"replicas": 2}}}) as served:
        body = {"inputs": "open a socket and listen"}
        began = time.monotonic()
        with pressing(plan(served, "labels", body, connections=8, seconds=86_400)) as found:
            while (now := time.monotonic() - began) < 60 * minutes:
                samples.append((now, memory(served)))
                time.sleep(5)
    seen = found[0]
    failed = sum(n for status, n in seen.statuses.items() if status != "200")
    growths = {kind: growth(samples, kind, 60 * minutes) for kind in KINDS}
    worst = max(growths, key=lambda kind: abs(growths[kind]))
    say(", ".join(f"{kind} {value:+.2%}" for kind, value in growths.items()))
    short = "" if minutes >= MINUTES else f" (measured for {minutes:g} minutes only)"
    return Result(
        f"{growths[worst]:+.2%} ({worst}) over {minutes:g} minutes, {failed} failed of "
        f"{sum(seen.statuses.values()):,}{short}",
        f"within {MOST_GROWTH:.0%} over {MINUTES:g} minutes",
        abs(growths[worst]) <= MOST_GROWTH and minutes >= MINUTES and not failed,
        {"growths": growths, "samples": [[round(t), each] for t, each in samples[::6]]},
    )


def memory(served: Served) -> dict[str, int]:
    """Bytes that the processes of each kind hold."""
    found = {}
    for kind, name in KINDS.items():
        found[kind] = sum(process.memory_info().rss for process in processes(served, name))
    return found


def growth(samples: list[tuple[float, dict[str, int]]], kind: str, seconds: float) -> float:
    """Of the last minute over the one after warming up, as a share."""
    start = seconds * WARM
    window = min(60.0, seconds / 10)
    early = [each[kind] for at, each in samples if start <= at < start + window]
    late = [each[kind] for at, each in samples if at >= seconds - window]
    return statistics.mean(late) / statistics.mean(early) - 1
