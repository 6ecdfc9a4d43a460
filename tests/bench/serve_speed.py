"""As fast as the model allows: requests through HTTP against the bare network."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.bench.pressure import press
from tests.bench.result import Result, Say
from tests.bench.served import BERT, Bare, bundle_of, plan, text_of
from tests.services import serving

CLAIM = "serving is as fast as the model allows"
HOW = (
    "BERT of 4 layers, 256 wide, 25 tokens, one replica with one thread, through HTTP with tokens "
    "and metrics on: requests/s at 64 connections against the network alone in batches of 16, and "
    "the median latency at one connection against its single call; alternating blocks, medians"
)
LEAST_SHARE, MOST_MS = 0.85, 2.0
BATCH, CONNECTIONS = 16, 64


def measure(folder: Path, say: Say, blocks: int = 5, seconds: float = 8.0) -> Result:
    """Alternate the bare network and the service."""
    rates, shares, overheads = [], [], []
    with serving(folder, {"labels": BERT | {"serve": {"replicas": 1}}}) as served:
        bundle = bundle_of(served, "labels")
        body = {"inputs": text_of(bundle)}
        press(plan(served, "labels", body, connections=CONNECTIONS, seconds=3))
        with Bare(bundle, ("text", "classification"), body) as bare:
            for block in range(blocks):
                alone = 1e3 * BATCH / bare.ms(BATCH, seconds / 2)
                many = press(plan(served, "labels", body, connections=CONNECTIONS, seconds=seconds))
                assert set(many.statuses) == {"200"}, many.errors
                after = 1e3 * BATCH / bare.ms(BATCH, seconds / 2)
                call = bare.ms(1, seconds / 4)
                one = press(plan(served, "labels", body, connections=1, seconds=seconds / 2))
                shares.append(many.rate / ((alone + after) / 2))
                overheads.append(one.quantile(0.5) - call)
                rates.append(
                    {
                        "bare": [alone, after],
                        "served": many.rate,
                        "p99_ms": many.quantile(0.99),
                        "call_ms": call,
                        "one_ms": one.quantile(0.5),
                    }
                )
                say(
                    f"block {block + 1}: {many.rate:.0f} of {alone:.0f} and {after:.0f}/s "
                    f"({shares[-1]:.3f}); one: {call:.2f} + {overheads[-1]:.2f} ms"
                )
    share, overhead = statistics.median(shares), statistics.median(overheads)
    return Result(
        f"{share:.3f} ({min(shares):.3f} to {max(shares):.3f}) of the network's rate; "
        f"single call + {overhead:.2f} ms ({min(overheads):.2f} to {max(overheads):.2f})",
        f"at least {LEAST_SHARE}; at most + {MOST_MS} ms",
        share >= LEAST_SHARE and overhead <= MOST_MS,
        {"blocks": rates, "shares": shares, "overheads_ms": overheads},
    )
