"""One leg of a trial: the run that `slipway train` would make of its spec, up to a step.

It runs inside a Ray Tune trial, which holds no CPU itself: the training workers take theirs.
"""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import ray.tune

from cluster.lease import Held, Lease
from cluster.spec import Spec, with_values
from cluster.storage import Storage, open_storage
from jobs.fit import fit
from jobs.forks import Origin, open_fork
from jobs.prepare import prepare
from jobs.pretrain import configure
from jobs.runs import Run, latest_checkpoint, stage_digest
from jobs.session import is_dead, this_process
from jobs.stages import train_digest
from jobs.starts import pinned, start_folder
from tune.rungs import Ladder

PATIENCE_S = 120.0


class UnscoredError(ValueError):
    """Trials have nothing to be compared by."""


def changed(spec: Spec, name: str, values: dict[str, Any]) -> Spec:
    """The spec with a trial's values; ValueError where its keys do not allow them."""
    model = with_values(spec.model(name), values, Path(spec.root))
    return spec.model_copy(update={"models": spec.models | {name: model}})


class Place(NamedTuple):
    """Where a leg belongs: the sweep's run, the trial's number, and the rung that it leads to."""

    sweep: str
    trial: int
    ladder: Ladder
    rung: int


def open_trial(
    spec: Spec,
    name: str,
    values: dict[str, Any],
    origin: Origin | None = None,
    place: Place | None = None,
) -> tuple[Spec, Run, str]:
    """A trial's spec, its run, and the digest of its data, prepared where that is new.

    A run that goes on from another's checkpoint is begun with a copy of it. It is the run that
    `slipway train` would have, unless that one is beyond the rung of ``place``, by another sweep or
    a training: then the trial has one of its own, as it is compared with others at that rung.
    """
    spec = changed(spec, name, values)
    storage = open_storage(spec.cluster.storage, spec.name)
    spec = pinned(spec, name, storage)
    model = spec.model(name)
    prepared = prepare(model, storage, lambda line: None, start_folder(model, storage))
    digest = train_digest(model, prepared.digest)
    run = _opened(storage, name, digest, origin)
    if place is not None and is_beyond(run, place.ladder.steps(model.train)[place.rung]):
        own = {"stage": "train", "train": digest, "sweep": place.sweep, "trial": place.trial}
        run = _opened(storage, name, stage_digest(own), origin)
    return spec, run, prepared.digest


def _opened(storage: Storage, name: str, digest: str, origin: Origin | None) -> Run:
    if origin is not None:
        return open_fork(storage, name, digest, origin)
    return Run.open(storage, name, "train", digest)


def is_beyond(run: Run, step: int) -> bool:
    """Whether a run has trained further than to this step."""
    result, saved = run.result(), latest_checkpoint(run)
    reached = (result["steps"] if result else 0, saved.step if saved else 0)
    return max(reached) > step


def train_leg(config: dict[str, Any], spec: Spec, name: str, ladder: Ladder, sweep: str) -> None:
    """Ray Tune's trainable; config: {"trial", "rung", "values", "origin"}. Reports how it went."""
    began = time.monotonic()
    try:
        report = _trained(config, spec, name, Place(sweep, config["trial"], ladder, config["rung"]))
    except UnscoredError as error:
        report = {"failed": str(error), "unscored": True}
    except ValueError as error:
        report = {"failed": str(error)}
    except Exception as error:  # whatever ends a trial is a row of the table, not the sweep's end
        traceback.print_exc()
        report = {"failed": f"{type(error).__name__}: {error}"}
    ray.tune.report(report | {"seconds": time.monotonic() - began})


def _trained(config: dict[str, Any], spec: Spec, name: str, place: Place) -> dict[str, Any]:
    origin = Origin(**config["origin"]) if config.get("origin") else None
    changed_spec, run, data = open_trial(spec, name, config["values"], origin, place)
    model = changed_spec.model(name)
    until = place.ladder.steps(model.train)[place.rung]
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
        known = ", ".join(metrics) or "nothing"
        raise UnscoredError(
            f"no trial reports {metric}, by which they are compared; they report {known}: "
            "tuning needs rows in the validation part (data.split.validation)"
        )
    return {"score": float(metrics[metric]), "step": step, "run": run.id}
