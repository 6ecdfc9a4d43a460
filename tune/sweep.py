"""Search a model's keys on the cluster this job runs on.

    python -m tune.sweep cluster.yaml tickets

Every decision and score goes to storage as it falls; started again, a sweep goes on where it was.
The best trial is trained to its end, published as a version and evaluated.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import ray
import ray.tune

from cluster.request import REFUSED
from cluster.spec import Spec, load, worker_slots
from cluster.storage import open_storage
from jobs.bundles import resolve
from jobs.judging import GateError, judge
from jobs.logbook import Logbook
from jobs.prepare import prepare
from jobs.pretrain import STAGES, configure, train
from jobs.runs import Run
from jobs.session import Session, log_path, say, spec_root
from jobs.stages import sweep_digest
from jobs.starts import pinned, start_folder
from tune.driver import Legs
from tune.history import History, Log, Trial
from tune.legs import open_trial, train_leg
from tune.results import write_results
from tune.rungs import Ladder
from tune.table import line

WAITS = {"memory": 1.0}
"""What a leg holds itself while its workers train: something, as Ray asks for, but no CPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or continue a sweep; returns the exit code.

    1: failed, 2: wrong request, 3: the gate said no.
    """
    parser = argparse.ArgumentParser(prog="python -m tune.sweep", description=__doc__)
    parser.add_argument("spec", help="the YAML file")
    parser.add_argument("model", help="a name under models:")
    parser.add_argument("-e", "--environment", default=os.environ.get("SLIPWAY_ENV"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--until", choices=STAGES[1:], default=STAGES[-1])
    parser.add_argument("--again", action="store_true", help="search even if it is done")
    parser.add_argument("--run", help="the run's id, where it has been opened already")
    options = parser.parse_args(arguments)
    try:
        root = spec_root(options.spec)
        spec = load(options.spec, options.environment, options.overrides, root=root)
        if spec.model(options.model).tune is None:
            raise ValueError(f"models.{options.model} has no tune: section")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with Logbook() as logbook:
        try:
            sweep(spec, options.model, options.until, options.again, options.run, logbook)
        except GateError:
            return REFUSED
        except ValueError as error:
            say(f"error: {error}")
            return 1
    return 0


def sweep(
    spec: Spec, name: str, until: str, again: bool, run_id: str | None, logbook: Logbook
) -> None:
    """Search until the sweep is complete, then bring its best trial up to the stage ``until``."""
    storage = open_storage(spec.cluster.storage, spec.name)
    storage.check()
    if run_id is not None:
        logbook.keep(storage, log_path(Run(storage, run_id)))
    configure(spec)
    ray.init(logging_level="warning")
    spec = pinned(spec, name, storage)
    model = spec.model(name)
    prepared = prepare(model, storage, say, start_folder(model, storage))
    digest = sweep_digest(model, prepared.digest)
    run = Run(storage, run_id) if run_id else Run.open(storage, name, "tune", digest, again)
    with Session(run, logbook) as session:
        if session.mine:
            storage.write(f"{run.path}/spec.yaml", spec.dump().encode())
            attempt = run.next_attempt({"resumes": None})
            history = search(spec, name, run, prepared.manifest["splits"]["train"]["rows"])
            run.finish(conclude(spec, name, run, history), attempt)
    result = run.result()
    if result is None:
        raise ValueError(f"{run.id} ended without a result; see slipway logs {run.id}")
    version = resolve(storage, f"{name}@{result['version']}")
    manifest = storage.read_json(f"data/{version.bundle['data']}/manifest.json")
    judge(spec, storage, version.name, manifest, until, run.id)


def search(spec: Spec, name: str, run: Run, num_rows: int) -> History:
    """Let Ray Tune run legs until the log says that the sweep is complete."""
    model = spec.model(name)
    assert model.tune is not None
    ladder = Ladder(model.tune, model.train, num_rows)
    higher = model.direction == "max"
    legs = Legs(model, ladder, Log(run.storage, run.id), lambda h: say(line(h, model.tune, higher)))
    parallel = num_parallel(spec, name)
    known = len(legs.history.trials)
    say(
        f"{run.id}: {model.tune.trials} trials of {model.tune.search.type}, rungs at steps "
        f"{ladder.steps(model.train)}, {parallel} at a time"
        + (f"; {known} trials are known" if known else "")
    )
    spec = shared_out(spec, name, parallel)
    trainable = ray.tune.with_parameters(train_leg, spec=spec, name=name, ladder=ladder)
    with tempfile.TemporaryDirectory(prefix="slipway-tune-") as folder:
        ray.tune.Tuner(
            ray.tune.with_resources(trainable, WAITS),
            tune_config=ray.tune.TuneConfig(
                search_alg=legs,
                num_samples=-1,
                max_concurrent_trials=parallel,
                reuse_actors=False,
            ),
            run_config=ray.tune.RunConfig(name=run.id, storage_path=folder, verbose=0),
        ).fit()
    return legs.history


def num_parallel(spec: Spec, name: str) -> int:
    """Trials at once: as many as the cluster has workers for; ValueError where there is no one."""
    model = spec.model(name)
    assert model.tune is not None
    workers = model.train.workers.max
    slots = worker_slots(spec.cluster, model.train)
    if slots is not None and slots < workers:
        raise ValueError(
            f"tune: a trial takes {workers} workers and the cluster holds {slots}; "
            "lower train.workers"
        )
    most = model.tune.trials if slots is None else slots // workers
    return max(1, min(most, model.tune.parallel or most))


def shared_out(spec: Spec, name: str, parallel: int) -> Spec:
    """The spec with the cluster's CPUs shared by so many trials, where it does not say."""
    model = spec.model(name)
    slots = worker_slots(spec.cluster, model.train)
    if model.train.cpus_per_worker != "auto" or slots is None:
        return spec
    cpus = max(1, slots // (parallel * model.train.workers.max))
    section = model.train.model_copy(update={"cpus_per_worker": float(cpus)})
    changed_model = model.model_copy(update={"train": section})
    return spec.model_copy(update={"models": spec.models | {name: changed_model}})


def conclude(spec: Spec, name: str, run: Run, history: History) -> dict[str, Any]:
    """Train the best trial to its end; the sweep's result."""
    model = spec.model(name)
    best = history.best(model.direction == "max")
    write_results(run, history, model)
    if best is None:
        reasons = {trial.failed for trial in history.trials.values() if trial.failed}
        raise ValueError("no trial has a score: " + ("; ".join(sorted(reasons)) or "none ran"))
    say(f"best is trial {best.number}: {best.values}")
    say(f"report: {run.storage.url(f'sweeps/{run.id}/report.html')}")
    version, metrics = publish(spec, name, best)
    return {
        "version": version,
        "metrics": metrics,
        "trial": best.number,
        "values": best.values,
        "trials": len(history.trials),
        "ended": history.ended or "complete",
    }


def publish(spec: Spec, name: str, best: Trial) -> tuple[int, dict[str, float]]:
    """Train the best trial to its end, as `slipway train` would; version and metrics."""
    changed_spec, run, _ = open_trial(spec, name, best.values)
    model = changed_spec.model(name)
    start = start_folder(model, run.storage)
    prepared = prepare(model, run.storage, lambda text: None, start)
    if run.result() is None:
        train(changed_spec, name, run, prepared)
    result = run.result()
    assert result is not None
    return int(result["version"]), dict(result["metrics"])


if __name__ == "__main__":
    sys.exit(main())
