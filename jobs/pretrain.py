"""Pretrain a model of the spec on the cluster this job runs on.

    ray job submit --working-dir . -- python -m jobs.pretrain cluster.yaml assistant

Prepares the data where that is not done, trains with DeepSpeed ZeRO under Ray Train, publishes the
best checkpoint as a version, evaluates it and promotes it where its gate says so. What is done is
skipped; what was cut off resumes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import ray
import ray.train
import ray.train.torch

from cluster.request import REFUSED
from cluster.spec import ModelSpec, Spec, load, usable_pools, worker_slots
from cluster.storage import Storage, StorageError, open_storage
from jobs.agreement import AgreedError
from jobs.judging import GateError, judge
from jobs.logbook import Logbook
from jobs.loop import DivergedError, Task, Worker
from jobs.placement import place
from jobs.prepare import Prepared, prepare
from jobs.runs import Run, latest_checkpoint, publish_metrics
from jobs.schedule import num_steps, warmup_steps
from jobs.session import Session, log_path, say, spec_root
from jobs.stages import prepare_digest, train_digest
from jobs.starts import pinned, start_folder

STAGES = ("prepare", "train", "evaluate", "promote")
RAY_TRAIN = {
    # How often Ray Train asks workers for their state: as long as the end of a run and the death
    # of a worker go unnoticed. Asking every 0.2 s took a twentieth of a core from the training.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it prints every line of a worker twice
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages up to ``--until``; returns the exit code.

    1: failed, 2: wrong request, 3: the gate said no.
    """
    parser = argparse.ArgumentParser(prog="python -m jobs.pretrain", description=__doc__)
    parser.add_argument("spec", help="the YAML file")
    parser.add_argument("model", help="a name under models:")
    parser.add_argument("-e", "--environment", default=os.environ.get("SLIPWAY_ENV"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1])
    parser.add_argument("--again", action="store_true", help="train even if it is done")
    parser.add_argument("--run", help="the run's id, where it has been opened already")
    options = parser.parse_args(arguments)
    try:
        spec = load(
            options.spec, options.environment, options.overrides, root=spec_root(options.spec)
        )
        spec.model(options.model)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with Logbook() as logbook:
        try:
            pretrain(spec, options.model, options.until, options.again, options.run, logbook)
        except GateError:
            return REFUSED
        except ValueError as error:
            say(f"error: {error}")
            return 1
    return 0


def pretrain(
    spec: Spec, name: str, until: str, again: bool, run_id: str | None, logbook: Logbook
) -> None:
    """Bring a model up to the stage ``until`` on the Ray cluster at RAY_ADDRESS."""
    storage = open_storage(spec.cluster.storage, spec.name)
    storage.check()
    if run_id is not None:
        logbook.keep(storage, log_path(Run(storage, run_id)))
    configure(spec)
    ray.init(logging_level="warning")
    spec = pinned(spec, name, storage)
    model = spec.model(name)
    check_trackers(model)
    prepared = prepare(model, storage, say, start_folder(model, storage))
    if until == "prepare":
        record_preparation(storage, name, prepared, logbook)
        return
    digest = train_digest(model, prepared.digest)
    run = Run(storage, run_id) if run_id else Run.open(storage, name, "train", digest, again)
    with Session(run, logbook) as session:
        if session.mine:
            train(spec, name, run, prepared)
    result = run.result()
    if result is None:
        raise ValueError(f"{run.id} ended without a result; see slipway logs {run.id}")
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


def fit(spec: Spec, name: str, run: Run, data: str, until: int | None = None) -> dict[str, Any]:
    """Train under Ray Train to the end of the run, or until it pauses at a step.

    Returns what `jobs.loop.Worker.work` does; raises ValueError where no restart is left.
    """
    model = spec.model(name)
    placed = place(spec, name, run)
    task = Task(
        spec=spec,
        model=name,
        run=run.id,
        data=data,
        stage=placed.stage,
        precision=placed.precision,
        until=until,
    )
    say(f"starting {placed.workers} training workers")
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"task": task},
        scaling_config=_scaling(spec, model, placed.workers),
        torch_config=ray.train.torch.TorchConfig(timeout_s=max(1, int(model.train.stall))),
        run_config=ray.train.RunConfig(
            name=run.id,
            failure_config=ray.train.FailureConfig(max_failures=model.train.restarts),
            **_ray_storage(run),
        ),
    )
    try:
        outcome = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        print(error, flush=True)  # with the worker's traceback, into the log
        outcome = failure(error)
    if isinstance(outcome, str):
        attempts = run.attempts()
        with contextlib.suppress(StorageError):  # full, perhaps: the reason is told all the same
            run.fail(attempts[-1].number if attempts else 1, outcome)
        raise ValueError(f"{outcome}; {safe(run)}")
    return dict(outcome)


def safe(run: Run) -> str:
    """Say what a failed run has kept."""
    last = latest_checkpoint(run)
    return f"saved up to step {last.step}" if last else "no checkpoint is saved yet"


def failure(error: Exception) -> str:
    """Return the cause of a failed training in one line: the first worker's own words."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank, first = min(failures.items())
    lines = [line for line in str(first).splitlines() if line.strip()]
    return f"training failed on worker {rank}: {lines[-1].strip() if lines else repr(first)}"


def _work(config: dict[str, Any]) -> dict[str, Any] | str:
    """One Ray Train worker; its rank 0 leaves the result in storage.

    What a restart cannot mend is returned: raised, it would be tried again from a checkpoint.
    """
    try:
        return Worker(config["task"], ray.train.torch.get_device()).work()
    except (AgreedError, DivergedError) as error:
        return str(error)


def _on_gpus(spec: Spec, model: ModelSpec) -> bool:
    """Whether the pools that a model may use have accelerators."""
    return any(pool.accelerators for pool in usable_pools(spec.cluster, model.train))


def _scaling(spec: Spec, model: ModelSpec, workers: int) -> ray.train.ScalingConfig:
    """One device per worker where the pool has accelerators, else CPUs."""
    gpus = _on_gpus(spec, model)
    cpus = model.train.cpus_per_worker
    if cpus == "auto":
        slots = None if gpus else worker_slots(spec.cluster, model.train)
        cpus = max(1, (slots or workers) // workers)
    resources = {"CPU": float(cpus)}
    return ray.train.ScalingConfig(
        num_workers=workers,
        use_gpu=gpus,
        resources_per_worker=resources | ({"GPU": 1.0} if gpus else {}),
    )


def _ray_storage(run: Run) -> dict[str, Any]:
    """Where Ray Train keeps its own notes: in the run's folder, which every node reaches."""
    path = run.storage.bulk_path(f"{run.path}/ray")
    return {"storage_path": path, "storage_filesystem": run.storage.filesystem()}


if __name__ == "__main__":
    sys.exit(main())
