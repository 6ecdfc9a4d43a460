"""One leg of a trial: the run that `slipway train` would make of its spec, up to a step.

It runs inside a Ray Tune trial, which holds no CPU itself: the training workers take theirs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray.tune

from cluster.lease import Held, Lease
from cluster.spec import Spec, with_values
from cluster.storage import open_storage
from jobs.prepare import prepare
from jobs.pretrain import configure, fit
from jobs.runs import Run
from jobs.session import is_dead, this_process
from jobs.stages import train_digest
from jobs.starts import pinned, start_folder
from tune.rungs import Ladder

PATIENCE_S = 120.0


def changed(spec: Spec, name: str, values: dict[str, Any]) -> Spec:
    """The spec with a trial's values; ValueError where its keys do not allow them."""
    model = with_values(spec.model(name), values, Path(spec.root))
    return spec.model_copy(update={"models": spec.models | {name: model}})


def open_trial(spec: Spec, name: str, values: dict[str, Any]) -> tuple[Spec, Run, str]:
    """A trial's spec, its run, and the digest of its data, prepared where that is new."""
    spec = changed(spec, name, values)
    storage = open_storage(spec.cluster.storage, spec.name)
    spec = pinned(spec, name, storage)
    model = spec.model(name)
    prepared = prepare(model, storage, lambda line: None, start_folder(model, storage))
    run = Run.open(storage, name, "train", train_digest(model, prepared.digest))
    return spec, run, prepared.digest


def train_leg(config: dict[str, Any], spec: Spec, name: str, ladder: Ladder) -> None:
    """Ray Tune's trainable; config: {"trial", "rung", "values"}. Reports how the leg went."""
    began = time.monotonic()
    try:
        report = _trained(config, spec, name, ladder)
    except ValueError as error:
        report = {"failed": str(error)}
    ray.tune.report(report | {"seconds": time.monotonic() - began})


def _trained(config: dict[str, Any], spec: Spec, name: str, ladder: Ladder) -> dict[str, Any]:
    changed_spec, run, data = open_trial(spec, name, config["values"])
    model = changed_spec.model(name)
    until = ladder.steps(model.train)[config["rung"]]
    result = run.result()
    if result is not None:  # trained to its end before, as a run of its own
        return _report(result["metrics"], model.metric, result["steps"], run)
    configure(changed_spec)
    with _held(run):
        run.storage.write(f"{run.path}/spec.yaml", changed_spec.dump().encode())
        outcome = fit(changed_spec, name, run, data, until)
    return _report(outcome["metrics"], model.metric, outcome["step"], run)


def _held(run: Run) -> Lease:
    """The run's lease; one whose holder died without a word frees itself within a minute."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Lease.acquire(run.storage, f"{run.path}/lease.json", this_process(), is_dead)
        except Held as held:
            if time.monotonic() > deadline:
                raise ValueError(f"{run.id} is under way elsewhere: {held}") from None
            time.sleep(1.0)


def _report(metrics: dict[str, Any], metric: str, step: int, run: Run) -> dict[str, Any]:
    if metric not in metrics:
        raise ValueError(f"the trial reports no {metric}: tuning needs data.split.validation")
    return {"score": float(metrics[metric]), "step": step, "run": run.id}
