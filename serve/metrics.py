"""Prometheus metrics, at the port where Ray's own are; what `serve.figures` counts, for graphs."""

from __future__ import annotations

from serve.figures import EDGES_MS, Observe, ObserveBatch

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper edges of the batch sizes' classes."""


def requests() -> Observe:
    """Counts answers by version and status, and measures their latencies."""
    from ray.util.metrics import Counter, Histogram

    answers = Counter(
        "slipway_requests_total", "Answers by version and status", ("model", "version", "status")
    )
    latencies = Histogram(
        "slipway_latency_ms", "Latency of answers", list(EDGES_MS), ("model", "version")
    )

    def observe(name: str, status: int, ms: float) -> None:
        tags = tags_of(name)
        answers.inc(1, tags | {"status": str(status)})
        if status < 400:
            latencies.observe(max(ms, 1e-3), tags)

    return observe


def batches() -> ObserveBatch:
    """Measures batches, or streams that are written together, and what waits for the next."""
    from ray.util.metrics import Gauge, Histogram

    sizes = Histogram(
        "slipway_batch_size", "Requests computed together", list(SIZES), ("model", "version")
    )
    queue = Gauge("slipway_queue_length", "Requests that wait for a batch", ("model", "version"))

    def observe(name: str, size: int, waiting: int) -> None:
        sizes.observe(size, tags_of(name))
        queue.set(waiting, tags_of(name))

    return observe


def tags_of(name: str) -> dict[str, str]:
    """MODEL@VERSION as labels."""
    model, _, version = name.partition("@")
    return {"model": model, "version": version}
