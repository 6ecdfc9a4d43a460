"""Services follow the load: from nothing, up, and down again, without losing a request."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from tests.bench.pressure import pressing
from tests.bench.result import Result, Say
from tests.bench.served import plan, processes
from tests.services import LABELS, Served, serving

CLAIM = "services follow the load"
HOW = (
    "from zero: first request to each of ten models that sleep; stepped load of 2, 16 and 2 "
    "connections on one with replicas 1..2 and target_ongoing 4: replicas after each step, and "
    "requests that failed (a refusal with Retry-After is none); then the sleepers sleep again"
)
SLEEPERS, MOST_S, LEAST_ANSWERS = 10, 20.0, 5000
STEPS = ((2, 20.0), (16, 60.0), (2, 110.0))


def measure(folder: Path, say: Say, sleepers: int = SLEEPERS) -> Result:
    """Wake the sleepers one after the other, then climb and descend."""
    names = [f"sleeper-{n}" for n in range(sleepers)]
    models = {name: LABELS | {"serve": {"replicas": "0..1"}} for name in names}
    models["labels"] = LABELS | {"serve": {"replicas": "1..2", "target_ongoing": 4}}
    with serving(folder, models) as served:
        waits = [wake(served, name) for name in names]
        say("from zero: " + ", ".join(f"{wait:.1f}" for wait in waits) + " s")
        steps = [step(served, connections, seconds) for connections, seconds in STEPS]
        for each in steps:
            say(str(each))
        asleep = sum(not processes(served, f"ray::ServeReplica:{name}:") for name in names)
    median = statistics.median(waits)
    failed = sum(each["failed"] for each in steps)
    answers = sum(each["answers"] for each in steps)
    replicas = [each["replicas"] for each in steps]
    return Result(
        f"from zero {median:.1f} s ({min(waits):.1f} to {max(waits):.1f}, {len(waits)} times), "
        f"{asleep} asleep again; "
        f"replicas {' '.join(map(str, replicas))}; {failed} failed of {answers:,}",
        f"median of ten below {MOST_S:.0f} s, all asleep; 1 2 1; 0 failed of at least "
        f"{LEAST_ANSWERS:,}",
        median < MOST_S
        and len(waits) >= SLEEPERS
        and asleep == len(waits)
        and replicas == [1, 2, 1]
        and not failed
        and answers >= LEAST_ANSWERS,
        {"waits_s": waits, "steps": steps},
    )


def wake(served: Served, name: str) -> float:
    """Seconds until the first answer of a model that sleeps."""
    began = time.monotonic()
    answer = served.ask(f"/models/{name}", {"inputs": "open a socket"}, timeout_s=120)
    assert answer.status == 200, answer
    return time.monotonic() - began


def step(served: Served, connections: int, seconds: float) -> dict[str, Any]:
    """Load of so many connections, and the replicas at its end."""
    body = {"inputs": "open a socket and listen"}
    load = plan(served, "labels", body, connections=connections, seconds=3600)
    with pressing(load) as found:
        time.sleep(seconds)
        replicas = len(processes(served, "ray::ServeReplica:labels:"))
    seen = found[0]
    failed = sum(n for status, n in seen.statuses.items() if status not in ("200", "503"))
    return {
        "connections": connections,
        "replicas": replicas,
        "answers": len(seen.ms),
        "refused": seen.statuses["503"],
        "failed": failed,
        "p99_ms": seen.quantile(0.99),
        "errors": seen.errors[:5] if failed else [],
    }
