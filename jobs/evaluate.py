"""Score a version on its held-back split, or on any data of the user's.

ray job submit --working-dir . -- python -m jobs.evaluate cluster.yaml assistant@3 [--data FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cluster.spec import Pretrained, Spec, load, parse_model
from cluster.storage import Storage, open_storage
from jobs.bundles import Version, fetch_bundle, record_evaluation, resolve
from jobs.domains import Domain, Outcomes, open_domain
from jobs.feed import to_device
from jobs.logbook import Logbook
from jobs.prepared import HELD_BACK, PreparedData, held_back_split
from jobs.rows import Rows
from jobs.runs import Run
from jobs.scoring import joined
from jobs.session import Session, say, spec_root

BATCH_SIZE = 16
LATENCY_RECORDS = 200
# A baseline learns its few numbers from this much of the data as well as from all of it.
BASELINE_BATCHES = 20_000


def evaluate(spec: Spec, reference: str, data: str | None = None) -> dict[str, Any]:
    """Return and keep ``{"model", "version", "split", "metrics", "count", "baseline", "device"}``.

    Without ``data``: the test split that the version's data held back, else its validation split.
    """
    storage = open_storage(spec.cluster.storage, spec.name)
    version = resolve(storage, reference)
    folder = fetch_bundle(storage, version)
    model = parse_model(version.bundle["spec"])
    # The bundle is its own start: where the spec names no context, its config.json does.
    start = folder if isinstance(model.network, Pretrained) else None
    domain = open_domain(model, folder, start)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = domain.restore(folder).to(device)
    split, batches = _batches(storage, version, domain, data)
    baseline = _baseline(storage, version, domain, split)
    metrics, count = _score(domain, network, batches, device)
    report = {
        "model": version.model,
        "version": version.number,
        "split": split,
        "metrics": metrics,
        "count": count,
        "baseline": baseline,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
    record_evaluation(storage, version, _name(split, version), report)
    return report


def _batches(
    storage: Storage, version: Version, domain: Domain, data: str | None
) -> tuple[str, Iterator[dict[str, NDArray[Any]]]]:
    if data is not None:
        return data, domain.read([data], BATCH_SIZE)
    prepared = PreparedData(storage, version.bundle["data"])
    split = held_back_split(prepared.manifest)
    rows = prepared.rows(split) if split else None
    if split is not None and rows is not None:
        starts = range(0, len(rows), BATCH_SIZE)
        return split, (rows.slice(start, start + BATCH_SIZE) for start in starts)
    raise ValueError(f"{version.name} was trained without held-back data; name some with --data")


def _baseline(
    storage: Storage, version: Version, domain: Domain, split: str
) -> dict[str, Any] | None:
    """A simple model of the same training rows on the held-back split; None on other data."""
    if split not in HELD_BACK:
        return None
    prepared = PreparedData(storage, version.bundle["data"])
    return domain.baseline(_spread(prepared.rows("train")), _spread(prepared.rows(split)))


def _spread(rows: Rows | None) -> Iterator[dict[str, NDArray[Any]]]:
    """Batches from all over the split, at most BASELINE_BATCHES of them."""
    size = len(rows) if rows is not None else 0
    stride = max(BATCH_SIZE, size // BASELINE_BATCHES)
    for start in range(0, size, stride):
        assert rows is not None
        yield rows.slice(start, start + BATCH_SIZE)


@torch.no_grad()
def _score(
    domain: Domain,
    network: nn.Module,
    batches: Iterator[dict[str, NDArray[Any]]],
    device: torch.device,
) -> tuple[dict[str, float], int]:
    """Return the metrics, with the latency of single records, and how many units were scored."""
    network.eval()
    found: list[Outcomes] = []
    count, kept = 0, None
    for rows in batches:
        kept = rows if kept is None else kept
        batch = to_device(domain.collate(rows, None), device)
        count += domain.count(batch)
        found.append(domain.outcomes(network, batch))
    if not found:
        raise ValueError("there is nothing to score in this data")
    metrics = domain.metrics(joined(found))
    if kept is not None:
        metrics |= _latency(domain, network, kept, device)
    return metrics, count


def _latency(
    domain: Domain, network: nn.Module, rows: dict[str, NDArray[Any]], device: torch.device
) -> dict[str, float]:
    """Milliseconds of 200 single records in this process, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    size = len(next(iter(rows.values())))
    times = []
    for number in range(LATENCY_RECORDS + 5):
        start = number % size
        record = {name: column[start : start + 1] for name, column in rows.items()}
        began = time.perf_counter()
        domain.outcomes(network, to_device(domain.collate(record, None), device))
        times.append((time.perf_counter() - began) * 1000)
    torch.set_num_threads(threads)
    warm = times[5:]
    return {"p50_ms": float(np.percentile(warm, 50)), "p99_ms": float(np.percentile(warm, 99))}


def _name(split: str, version: Version) -> str:
    """File name of the evaluation: one per data digest."""
    if split in HELD_BACK:
        return f"{version.bundle['data'][:12]}-{split}"
    path = Path(split)
    content = path.read_bytes() if path.is_file() else os.fsencode(split)
    return hashlib.sha256(content).hexdigest()[:12]


def shown(report: dict[str, Any]) -> str:
    """Return the metrics in one line, the baseline's behind them."""
    text = _listed(report["metrics"])
    baseline = dict(report.get("baseline") or {})
    name = baseline.pop("name", None)
    return f"{text} (baseline, {name}: {_listed(baseline)})" if name else text


def _listed(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Score one version; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.evaluate", description=__doc__)
    parser.add_argument("spec", help="the YAML file")
    parser.add_argument("version", help="MODEL, MODEL@3, MODEL@latest or MODEL@ALIAS")
    parser.add_argument("--data", help="a file, folder or glob to score instead of held-back data")
    parser.add_argument("--run", help="the id of the run that keeps the report")
    options = parser.parse_args(arguments)
    with Logbook() as logbook:
        try:
            spec = load(options.spec, root=spec_root(options.spec))
            keep_report(spec, options, logbook)
        except ValueError as error:
            say(f"error: {error}")
            return 1
    return 0


def keep_report(spec: Spec, options: argparse.Namespace, logbook: Logbook) -> None:
    """Evaluate, and keep the report as the result of a run where one is named."""
    if not options.run:
        report = evaluate(spec, options.version, options.data)
        say(f"{report['model']}@{report['version']} on {report['split']}: {shown(report)}")
        return
    run = Run(open_storage(spec.cluster.storage, spec.name), options.run)
    with Session(run, logbook):
        report = evaluate(spec, options.version, options.data)
        say(f"{report['model']}@{report['version']} on {report['split']}: {shown(report)}")
        run.finish(report, run.next_attempt({"resumes": None}))


if __name__ == "__main__":
    sys.exit(main())
