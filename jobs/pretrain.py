"""Pretrain a model of the spec on the cluster this job runs on.

    ray job submit --working-dir . -- python -m jobs.pretrain cluster.yaml assistant

Prepares the data where that is not done, trains with DeepSpeed ZeRO under Ray Train, publishes the
best checkpoint as a version, evaluates it and promotes it where its gate says so. What is done is
skipped; what was cut off resumes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Sequence

from cluster.spec import ModelSpec, Spec
from cluster.storage import Storage, StorageError, open_storage
from jobs.driver import join
from jobs.fit import fit
from jobs.guard import guard
from jobs.judging import judge
from jobs.logbook import Logbook
from jobs.prepare import Prepared, prepare
from jobs.program import parse, perform
from jobs.runs import Run, publish_metrics
from jobs.schedule import num_steps, warmup_steps
from jobs.session import Session, log_path, say
from jobs.stages import prepare_digest, train_digest
from jobs.starts import pinned, start_folder
from jobs.usage import first_attempt, metered

STAGES = ("prepare", "train", "evaluate", "promote")
RAY_TRAIN = {
    # How often Ray Train asks workers for their state: as long as the end of a run and the death
    # of a worker go unnoticed. Asking every 0.2 s took a twentieth of a core from the training.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it prints every line of a worker twice
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages up to ``--until``; returns the exit code."""
    options = parse("jobs.pretrain", __doc__, STAGES, arguments)
    name, until, again = options.model, options.until, options.again
    return perform(
        options,
        lambda spec: spec.model(name),
        lambda spec, logbook: pretrain(spec, name, until, again, options.run, logbook),
    )


def pretrain(
    spec: Spec, name: str, until: str, again: bool, run_id: str | None, logbook: Logbook
) -> None:
    """Bring a model up to the stage ``until`` on the Ray cluster at RAY_ADDRESS."""
    storage = open_storage(spec.cluster.storage, spec.name)
    storage.check()
    if run_id is not None:
        logbook.keep(storage, log_path(Run(storage, run_id)))
    configure(spec)
    join()
    guard(spec)
    spec = pinned(spec, name, storage)
    model = spec.model(name)
    check_trackers(model)
    opened = Run(storage, run_id) if run_id else None
    with metered(spec, opened, "prepare") if opened else contextlib.nullcontext():
        prepared = prepare(model, storage, say, start_folder(model, storage))
    if until == "prepare":
        record_preparation(storage, name, prepared, logbook)
        return
    digest = train_digest(model, prepared.digest)
    run = opened or Run.open(storage, name, "train", digest, again)
    with Session(run, logbook) as session:
        if session.mine:
            with metered(spec, run, "train", model.train.workers.max, first_attempt(run)):
                train(spec, name, run, prepared)
    result = run.result()
    if result is None:
        raise ValueError(f"{run.id} ended without a result; see slipway logs {run.id}")
    with metered(spec, run, "evaluate"):
        judge(spec, storage, f"{name}@{result['version']}", prepared.manifest, until, run.id)


def configure(spec: Spec) -> None:
    """Set Ray Train up, through the environment, before it is used in this process."""
    for name, value in RAY_TRAIN.items():
        os.environ.setdefault(name, value)
    if spec.cluster.provider.type == "local":  # nobody takes this machine away: one actor less
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def check_trackers(model: ModelSpec) -> None:
    """Refuse a tracker that is not installed before anything starts."""
    for tracker in model.tracking:
        if importlib.util.find_spec(tracker) is None:
            raise ValueError(
                f"tracking: {tracker} is not installed on the cluster; pip install {tracker}, "
                "or leave it out of tracking:"
            )


def record_preparation(storage: Storage, name: str, prepared: Prepared, logbook: Logbook) -> None:
    """Keep what a preparation gave as the result of its run."""
    run = Run.open(storage, name, "prepare", prepare_digest(prepared.digest))
    counts = {split: counts["rows"] for split, counts in prepared.manifest["splits"].items()}
    with Session(run, logbook) as session:
        if session.mine:
            number = run.next_attempt({"resumes": None})
            run.finish({"metrics": {"rows": counts}, "data": prepared.digest}, number)


def train(spec: Spec, name: str, run: Run, prepared: Prepared) -> None:
    """Train to a result, or raise ValueError with the cause; the run's curve is kept either way."""
    check_warmup(spec.model(name), prepared.manifest["splits"]["train"]["rows"])
    run.storage.write(f"{run.path}/spec.yaml", spec.dump().encode())
    try:
        fit(spec, name, run, prepared.digest)
    finally:
        with contextlib.suppress(StorageError):  # it is made anew whenever it is asked for
            publish_metrics(run)


def check_warmup(model: ModelSpec, num_rows: int) -> None:
    """Refuse a warm-up as long as the run, now that the data tells how long that is."""
    total, warmup = num_steps(model.train, num_rows), warmup_steps(model.train, num_rows)
    if warmup >= total:
        raise ValueError(
            f"train.schedule.warmup: {model.train.schedule.warmup} are {warmup:,} steps, but the "
            f"whole run has {total:,}; shorten the warm-up or train longer"
        )


if __name__ == "__main__":
    sys.exit(main())
