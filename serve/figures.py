"""How many requests each version answered, how, and how fast: counted where they are answered."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

EDGES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000)
"""Upper edges of the latencies' classes; one more class holds what is slower."""
FORGET_S = 60.0
"""A source that is silent so long has ended; its figures stay in the sums."""
Snapshot = dict[str, dict[str, Any]]
"""MODEL@VERSION -> {"classes": {"2xx": count}, "latencies": [count per class of EDGES_MS],
"last": when the last was answered, in seconds since 1970}"""
Observe = Callable[[str, int, float], None]
"""Told (MODEL@VERSION or "", status, milliseconds) of every answer."""
ObserveBatch = Callable[[str, int, int], None]
"""Told (MODEL@VERSION, requests in the batch, requests that wait for the next) of every batch."""


class Figures:
    """The counts of one process since it started."""

    def __init__(self, also: Observe | None = None) -> None:
        self.counts: Snapshot = {}
        self._also = also

    def observe(self, version: str, status: int, ms: float) -> None:
        """Counts one answer."""
        found = self.counts.setdefault(version, _empty())
        kind = f"{status // 100}xx"
        found["classes"][kind] = found["classes"].get(kind, 0) + 1
        if status < 400:
            found["latencies"][bisect_left(EDGES_MS, ms)] += 1
            found["last"] = time.time()
        if self._also is not None:
            self._also(version, status, ms)


class Collected:
    """The counts of several processes, each known by its newest snapshot."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Snapshot]] = {}
        self._ended: Snapshot = {}

    def take(self, source: str, snapshot: Snapshot) -> None:
        """The newest counts of a process."""
        now = self._clock()
        self._known[source] = (now, snapshot)
        for name, (seen, counts) in list(self._known.items()):
            if now - seen > FORGET_S:
                del self._known[name]
                self._ended = merged([self._ended, counts])

    def summary(self, own: Snapshot) -> dict[str, dict[str, Any]]:
        """MODEL@VERSION -> {"requests", "errors", "refused", "p50_ms", "p99_ms", "last"}.

        Errors are ours (5xx), refusals the client's (4xx); latencies are of the answers, as the
        upper edges of their classes.
        """
        known = [counts for _, counts in self._known.values()]
        total = merged([own, self._ended, *known])
        named = {name: counts for name, counts in sorted(total.items()) if name.partition("@")[2]}
        return {version: summarise(counts) for version, counts in named.items()}


def merged(parts: list[Snapshot]) -> Snapshot:
    """Sums by version."""
    total: Snapshot = {}
    for part in parts:
        for version, counts in part.items():
            found = total.setdefault(version, _empty())
            for kind, count in counts["classes"].items():
                found["classes"][kind] = found["classes"].get(kind, 0) + count
            pairs = zip(found["latencies"], counts["latencies"], strict=True)
            found["latencies"] = [a + b for a, b in pairs]
            found["last"] = max(found["last"], counts["last"])
    return total


def summarise(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The line that `status` shows of a version."""
    classes = counts["classes"]
    return {
        "requests": sum(classes.values()),
        "errors": classes.get("5xx", 0),
        "refused": classes.get("4xx", 0),
        "p50_ms": quantile(counts["latencies"], 0.5),
        "p99_ms": quantile(counts["latencies"], 0.99),
        "last": counts["last"] or None,
    }


def quantile(latencies: list[int], share: float) -> float | None:
    """The upper edge of the class that this share of the answers was as fast as; None if none."""
    total, seen = sum(latencies), 0
    for count, edge in zip(latencies, (*EDGES_MS, float("inf")), strict=True):
        seen += count
        if total and seen >= share * total:
            return float(edge) if edge != float("inf") else float(2 * EDGES_MS[-1])
    return None


def _empty() -> dict[str, Any]:
    return {"classes": {}, "latencies": [0] * (len(EDGES_MS) + 1), "last": 0.0}
