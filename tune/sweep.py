"""Search a model's keys on the cluster this job runs on.

    python -m tune.sweep cluster.yaml tickets

Every decision and score goes to storage as it falls; started again, a sweep goes on where it was.
The best trial is trained to its end, published as a version and evaluated.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import ray
import ray.tune

from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.bundles import resolve
from jobs.driver import join
from jobs.forecast import forecast
from jobs.guard import guard
from jobs.judging import judge
from jobs.logbook import Logbook
from jobs.prepare import prepare
from jobs.pretrain import STAGES, configure, train
from jobs.program import parse, perform
from jobs.runs import Run
from jobs.session import Session, log_path, say
from jobs.stages import sweep_digest
from jobs.starts import pinned, start_folder
from jobs.usage import metered
from tune.bounds import causes
from tune.cost import trial_price
from tune.driver import Legs
from tune.history import History, Log, Stretch, Trial
from tune.legs import Place, UnscoredError, open_trial, train_leg
from tune.live import Live
from tune.opening import open_log
from tune.plan import check_sweep, pace_before
from tune.results import write_results
from tune.room import fitted, room_of, shared_out
from tune.rungs import Ladder

WAITS = {"memory": 1.0}
"""What a leg holds itself while its workers train: something, as Ray asks for, but no CPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or continue a sweep; returns the exit code."""
    options = parse("tune.sweep", __doc__, STAGES[1:], arguments)
    name, until, again = options.model, options.until, options.again

    def check(spec: Spec) -> None:
        if spec.model(name).tune is None:
            raise ValueError(f"models.{name} has no tune: section")
        check_sweep(spec, name)

    return perform(
        options,
        check,
        lambda spec, logbook: sweep(spec, name, until, again, options.run, logbook),
    )


def sweep(
    spec: Spec, name: str, until: str, again: bool, run_id: str | None, logbook: Logbook
) -> None:
    """Search until the sweep is complete, then bring its best trial up to the stage ``until``."""
    storage = open_storage(spec.cluster.storage, spec.name)
    storage.check()
    if run_id is not None:
        logbook.keep(storage, log_path(Run(storage, run_id)))
    configure(spec)
    join()
    guard(spec)
    spec = pinned(spec, name, storage)
    model = spec.model(name)
    prepared = prepare(model, storage, say, start_folder(model, storage))
    digest = sweep_digest(model, prepared.digest)
    run = Run(storage, run_id) if run_id else Run.open(storage, name, "tune", digest, again)
    with Session(run, logbook) as session:
        if session.mine:
            storage.write(f"{run.path}/spec.yaml", spec.dump().encode())
            attempt = run.next_attempt({"resumes": None})
            check_scores(name, prepared.manifest["splits"])
            log = open_log(run, model, prepared.digest, again)
            room = room_of(spec, name, slots_here(spec, name))
            spec = fitted(spec, name, room)
            with metered(spec, run, "tune", room.total):
                rows = prepared.manifest["splits"]["train"]["rows"]
                history = search(spec, name, run, log, prepared.digest, rows)
                try:
                    outcome = conclude(spec, name, run, history)
                except UnscoredError as error:
                    run.fail(attempt, str(error))
                    raise
            run.finish(outcome, attempt)
    result = run.result()
    if result is None:
        raise ValueError(f"{run.id} ended without a result; see slipway logs {run.id}")
    version = resolve(storage, f"{name}@{result['version']}")
    manifest = storage.read_json(f"data/{version.bundle['data']}/manifest.json")
    with metered(spec, run, "evaluate"):
        judge(spec, storage, version.name, manifest, until, run.id)


def search(spec: Spec, name: str, run: Run, log: Log, data: str, num_rows: int) -> History:
    """Let Ray Tune run legs until the log says that the sweep is complete."""
    model = spec.model(name)
    assert model.tune is not None
    room = room_of(spec, name, slots_here(spec, name))
    ladder, price = Ladder(model.tune, model.train, num_rows), trial_price(spec, name, room.workers)
    known = forecast(spec, name, run.storage, data, num_rows)
    pace = pace_before(known, room) if known.speed is not None else None
    live = Live(run, model, ladder.steps(model.train), room, pace, price)

    def begin(trial: Trial) -> None:
        last = trial.stretches[-1]
        place = Place(run.id, trial.number, ladder, last.since)
        open_trial(spec, name, last.values, last.origin, place)

    legs = Legs(model, ladder, log, live, begin, price)
    live.open(legs.history)
    shared = shared_out(spec, name, room, largest_node())
    trainable = ray.tune.with_parameters(
        train_leg, spec=shared, name=name, ladder=ladder, sweep=run.id
    )
    run_legs(ray.tune.with_resources(trainable, WAITS), run.id, legs, room.parallel)
    return legs.history


def run_legs(trainable: Any, run: str, legs: Legs, parallel: int) -> None:
    """Have Ray Tune run ``trainable`` for each leg that the searcher asks for."""
    with tempfile.TemporaryDirectory(prefix="slipway-tune-") as folder:
        ray.tune.Tuner(
            trainable,
            tune_config=ray.tune.TuneConfig(
                search_alg=legs,
                num_samples=-1,
                max_concurrent_trials=parallel,
                reuse_actors=True,  # else each trial waits for a process to import Ray and us
            ),
            run_config=ray.tune.RunConfig(name=run, storage_path=folder, verbose=0),
        ).fit()


def slots_here(spec: Spec, name: str) -> int | None:
    """Workers that the cluster of this job holds, for files that leave its size open.

    None where it may grow, so that what there is now tells nothing.
    """
    if spec.cluster.pools:
        return None
    each = spec.model(name).train.cpus_per_worker
    return int(ray.cluster_resources().get("CPU", 0) / (1.0 if each == "auto" else float(each)))


def largest_node() -> int:
    """CPUs of the largest node that this cluster has now: no worker can have more."""
    return max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])


def check_scores(name: str, splits: dict[str, Any]) -> None:
    """Refuse, before the first trial, data that leaves nothing to compare trials on."""
    if not splits.get("validation", {}).get("rows"):
        raise ValueError(
            f"models.{name}: trials are compared on the validation part, and it has no rows; "
            "raise data.split.validation, or give more data"
        )


def conclude(spec: Spec, name: str, run: Run, history: History) -> dict[str, Any]:
    """Train the best trial to its end; the sweep's result."""
    model = spec.model(name)
    best = history.best(model.direction == "max")
    price = trial_price(spec, name, room_of(spec, name, slots_here(spec, name)).workers)
    write_results(run, history, model, price)
    if best is None:
        reasons = causes(trial.failed for trial in history.trials.values() if trial.failed)
        told = "; ".join(reason for reason, _ in reasons) or history.ended or "none ran"
        raise UnscoredError(f"no trial has a score: {told}; mend that, and search with --again")
    stretch = best.stretch_at(best.best_rung(model.direction == "max"))
    say(f"best is trial {best.number}: {stretch.values}")
    say(f"report: {run.storage.url(f'sweeps/{run.id}/report.html')}")
    version, metrics = publish(spec, name, stretch)
    return {
        "version": version,
        "metrics": metrics,
        "trial": best.number,
        "values": stretch.values,
        "trials": len(history.trials),
        "ended": history.ended or "complete",
    }


def publish(spec: Spec, name: str, best: Stretch) -> tuple[int, dict[str, float]]:
    """Train the best trial to its end, as `slipway train` would; version and metrics."""
    changed_spec, run, _ = open_trial(spec, name, best.values, best.origin)
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
