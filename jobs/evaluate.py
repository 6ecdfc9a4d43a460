"""Score a version on its held-back split, or on any data of the user's.

ray job submit --working-dir . -- python -m jobs.evaluate cluster.yaml assistant@3 [--data FILE]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.notices import notify
from cluster.spec import Pretrained, Spec, load, parse_model
from cluster.storage import Storage, open_storage
from jobs.bundles import Version, fetch_bundle, record_evaluation, resolve
from jobs.domains import Domain, open_domain
from jobs.domains.details import Detail, Examples, Shown
from jobs.examination import Examination, examine
from jobs.incumbents import of_other
from jobs.intervals import intervals
from jobs.logbook import Logbook
from jobs.markup import clean
from jobs.report import Report, render, shown
from jobs.runs import Run, joined_metrics
from jobs.scored import Scored, named, own, training
from jobs.session import Session, say, spec_root
from jobs.usage import metered

MOST_TEXT = 300


def evaluate(
    spec: Spec, reference: str, data: str | None = None, like: str | None = None
) -> dict[str, Any]:
    """Keep and return the evaluation, with a report beside it.

    Without ``data``: on the test split that the version's data held back, else its validation
    split; with ``like``, on that of another version. ``{"model", "version", "split", "data",
    "metrics", "intervals", "count", "records", "baseline", "device", "details", "worst"}``.
    """
    storage = open_storage(spec.cluster.storage, spec.name)
    version = resolve(storage, reference)
    domain, folder = _opened(storage, version)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = domain.restore(folder).to(device)
    scored = _scored(storage, version, domain, data, like)
    baseline = _baseline(storage, version, domain, scored)
    found = examine(domain, network, scored.batches, device)
    metrics = domain.metrics(found.outcomes)
    details, worst = domain.details(found.outcomes), found.mistakes.show()
    evaluation: dict[str, Any] = {
        "model": version.model,
        "version": version.number,
        "split": scored.split,
        "held_back": scored.held_back,
        "data": scored.data,
        "metrics": _finite(metrics | found.latency),
        "intervals": intervals(domain.metrics, found.outcomes),
        "count": found.units,
        "records": _num_records(found),
        "metric": version.bundle.get("metric"),
        "baseline": baseline,
        "device": _device(device),
        "time": time.time(),
        "report": f"{version.path}/evaluations/{scored.name}.html",
    }
    page = Report(evaluation, version.bundle, details, worst, _curve(storage, version))
    storage.write(evaluation["report"], render(page).encode())
    evaluation["details"] = [_written(detail) for detail in details]
    evaluation["worst"] = [_line(item) for item in worst]
    record_evaluation(storage, version, scored.name, evaluation)
    return evaluation


def _opened(storage: Storage, version: Version) -> tuple[Domain, Path]:
    folder = fetch_bundle(storage, version)
    model = parse_model(version.bundle["spec"])
    # The bundle is its own start: where the spec names no context, its config.json does.
    start = folder if isinstance(model.network, Pretrained) else None
    return open_domain(model, folder, start), folder


def _scored(
    storage: Storage, version: Version, domain: Domain, data: str | None, like: str | None
) -> Scored:
    if data is not None:
        return named(storage, version, domain, data)
    other = resolve(storage, like) if like else version
    if other.bundle["data"] == version.bundle["data"]:
        return own(storage, version)
    return of_other(storage, version, domain, other)


def _baseline(
    storage: Storage, version: Version, domain: Domain, scored: Scored
) -> dict[str, Any] | None:
    """A simple model of the same training rows on the held-back split; None on other data."""
    if not scored.held_back or scored.data != version.bundle["data"]:
        return None
    batches = training(storage, version, scored.split)
    return _finite(domain.baseline(*batches)) if batches else None


def _curve(storage: Storage, version: Version) -> list[dict[str, Any]]:
    return joined_metrics(Run(storage, str(version.bundle.get("run"))))


def _num_records(found: Examination) -> int:
    return len(next(iter(found.outcomes.values())))


def _device(device: torch.device) -> str:
    """The device that latency was measured on, by the name it was sold under."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name())
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"cpu ({models[0]})" if models else "cpu"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is not a number: JSON has no word for it."""
    return {k: v for k, v in values.items() if not isinstance(v, float) or math.isfinite(v)}


def _written(detail: Detail) -> dict[str, Any]:
    """A detail as JSON, records by their text alone."""
    if isinstance(detail, Examples):
        return {"title": detail.title, "items": [_line(item) for item in detail.items]}
    return dict(_plain(asdict(detail)))


def _plain(value: Any) -> Any:
    """As JSON holds it: Python's own numbers, null for what is not a number."""
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inside) for inside in value]
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(item: Shown) -> dict[str, str]:
    return {"text": clean(item.text[:MOST_TEXT]), "note": clean(item.note)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Score one version; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.evaluate", description=__doc__)
    parser.add_argument("spec", help="the YAML file")
    parser.add_argument("version", help="MODEL, MODEL@3, MODEL@latest or MODEL@ALIAS")
    parser.add_argument("--data", help="a file, folder or glob to score instead of held-back data")
    parser.add_argument("--like", help="a version on whose held-back data to score")
    parser.add_argument("--run", help="the id of the run that keeps the report")
    options = parser.parse_args(arguments)
    with Logbook() as logbook:
        try:
            spec = load(options.spec, root=spec_root(options.spec))
        except ValueError as error:
            say(f"error: {error}")
            return 1
        try:
            keep_report(spec, options, logbook)
        except ValueError as error:
            say(f"error: {error}")
            text = f"{options.run or options.version} failed: {error}"
            notify(spec, "failed", text, {"run": options.run}, say)
            return 1
    return 0


def keep_report(spec: Spec, options: argparse.Namespace, logbook: Logbook) -> None:
    """Evaluate, and keep the evaluation as the result of a run where one is named."""
    storage = open_storage(spec.cluster.storage, spec.name)
    if not options.run:
        tell(storage, evaluate(spec, options.version, options.data, options.like))
        return
    run = Run(storage, options.run)
    with Session(run, logbook), metered(spec, run, "evaluate"):
        evaluation = evaluate(spec, options.version, options.data, options.like)
        tell(storage, evaluation)
        run.finish(evaluation, run.next_attempt({"resumes": None}))


def tell(storage: Storage, evaluation: dict[str, Any]) -> None:
    """Say what was found, and where the report lies."""
    name = f"{evaluation['model']}@{evaluation['version']}"
    say(f"{name} on {evaluation['split']}: {shown(evaluation)}")
    say(f"report: {storage.url(evaluation['report'])}")


if __name__ == "__main__":
    sys.exit(main())
