"""Overload is refused at once, and who was let in is answered in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.pressure import Seen, press, quantile
from tests.bench.result import Result, Say
from tests.bench.served import BERT, Bare, bundle_of, plan, text_of
from tests.services import serving

CLAIM = "overload is refused at once"
HOW = (
    "BERT of 4 layers, 256 wide, 25 tokens, one replica with one thread, batches of 32: requests "
    "sent on time at 3 times the rate it sustains (closed loop, 64 connections); p99 of the "
    "accepted against the network's own time for a full batch, and how fast 95 % of the refusals "
    "came; 5 times reported"
)
BATCH, MOST_BATCHES, MOST_MS = 32, 2.0, 100.0


def measure(folder: Path, say: Say, seconds: float = 15.0) -> Result:
    """Find the sustainable rate, then send three and five times as much."""
    model = BERT | {"serve": {"batch": {"size": BATCH}}}
    found: dict[str, dict[str, Any]] = {}
    with serving(folder, {"labels": model}) as served:
        bundle = bundle_of(served, "labels")
        body = {"inputs": text_of(bundle)}
        press(plan(served, "labels", body, connections=64, seconds=3))
        with Bare(bundle, ("text", "classification"), body) as bare:
            full_ms = bare.ms(BATCH, 5)
        rate = press(plan(served, "labels", body, connections=64, seconds=8)).rate
        say(f"sustains {rate:.0f}/s; a full batch takes {full_ms:.0f} ms")
        for times in (3, 5):
            load = plan(served, "labels", body, rate=times * rate, seconds=seconds)
            found[str(times)] = summary(press(load), full_ms)
            say(f"{times} times: {found[str(times)]}")
    three, five = found["3"], found["5"]
    holds = three["batches"] <= MOST_BATCHES and three["refused_p95_ms"] < MOST_MS
    return Result(
        f"accepted within {three['batches']:.2f} batches, refused within "
        f"{three['refused_p95_ms']:.0f} ms, {three['others']} other errors (at 5 times "
        f"{five['batches']:.2f}, {five['refused_p95_ms']:.0f} ms, {five['others']})",
        f"p99 at most {MOST_BATCHES:g} batches; p95 below {MOST_MS:.0f} ms; 0",
        holds and not three["others"],
        {"rate": rate, "full_batch_ms": full_ms, "times": found},
    )


def summary(seen: Seen, full_ms: float) -> dict[str, Any]:
    """What became of the accepted and of the refused."""
    p99 = seen.quantile(0.99)
    return {
        "accepted_per_s": seen.rate,
        "p50_ms": seen.quantile(0.5),
        "p99_ms": p99,
        "batches": p99 / full_ms,
        "refused": len(seen.refused_ms),
        "refused_p95_ms": quantile(seen.refused_ms, 0.95),
        "others": sum(n for s, n in seen.statuses.items() if s not in ("200", "503")),
    }
