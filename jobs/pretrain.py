"""Pretrain a model of the spec on the cluster this job runs on.

    ray job submit --working-dir . -- python -m jobs.pretrain cluster.yaml assistant

Prepares the data where that is not done, trains with DeepSpeed ZeRO under Ray Train, publishes the
best checkpoint as a version and evaluates it. What is done is skipped; what was cut off resumes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import ray
import ray.train
import ray.train.torch

from cluster.spec import ModelSpec, Spec, load, usable_pools
from cluster.storage import StorageError, open_storage
from jobs.agreement import AgreedError
from jobs.evaluate import evaluate, shown
from jobs.loop import Task, Worker
from jobs.placement import place
from jobs.prepare import prepare
from jobs.runs import Run, latest_checkpoint, publish_metrics
from jobs.session import Session, say, spec_root
from jobs.stages import prepare_digest, train_digest
from jobs.starts import pinned, start_folder

STAGES = ("prepare", "train", "evaluate")
RAY_TRAIN = {
    # How often Ray Train asks workers for their state; its 2 s would be how long the end of a run
    # and the death of a worker go unnoticed.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it prints every line of a worker twice
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages up to ``--until``; returns the exit code (1: failed, 2: wrong request)."""
    parser = argparse.ArgumentParser(prog="python -m jobs.pretrain", description=__doc__)
    parser.add_argument("spec", help="the YAML file")
    parser.add_argument("model", help="a name under models:")
    parser.add_argument("-e", "--environment", default=os.environ.get("SLIPWAY_ENV"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="K=V")
    parser.add_argument("--until", choices=STAGES, default="evaluate")
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
    try:
        pretrain(spec, options.model, options.until, options.again, options.run)
    except ValueError as error:
        say(f"error: {error}")
        return 1
    return 0


def pretrain(
    spec: Spec, name: str, until: str = "evaluate", again: bool = False, run_id: str | None = None
) -> None:
    """Bring a model up to the stage ``until`` on the Ray cluster at RAY_ADDRESS."""
    storage = open_storage(spec.cluster.storage, spec.name)
    storage.check()
    for name_of, value in RAY_TRAIN.items():
        os.environ.setdefault(name_of, value)
    ray.init(logging_level="warning")
    spec = pinned(spec, name, storage)
    model = spec.model(name)
    prepared = prepare(model, storage, say, start_folder(model, storage))
    if until == "prepare":
        run = Run.open(storage, name, "prepare", prepare_digest(prepared.digest))
    elif run_id is not None:
        run = Run(storage, run_id)
    else:
        run = Run.open(storage, name, "train", train_digest(model, prepared.digest), again)
    with Session(run) as session:
        if session.mine and until == "prepare":
            counts = {split: c["rows"] for split, c in prepared.manifest["splits"].items()}
            run.finish({"metrics": {"rows": counts}, "data": prepared.digest}, run.next_attempt({}))
        elif session.mine:
            try:
                fit(spec, name, run, prepared.digest)
            finally:
                with contextlib.suppress(StorageError):  # it is made anew whenever it is asked for
                    publish_metrics(run)
    result = run.result()
    if result is None:
        raise ValueError(f"{run.id} ended without a result; see slipway logs {run.id}")
    if until == "evaluate":
        gpus = 1 if _on_gpus(spec, model) else 0
        task = _evaluate.options(num_gpus=gpus).remote(spec, f"{name}@{result['version']}")
        report = ray.get(task)
        say(f"evaluated {name}@{result['version']} on {report['split']}: {shown(report)}")


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def _evaluate(spec: Spec, version: str) -> dict[str, Any]:
    return evaluate(spec, version)


def fit(spec: Spec, name: str, run: Run, data: str) -> None:
    """Train under Ray Train until there is a result or no restart is left."""
    model = spec.model(name)
    placed = place(spec, name, run)
    task = Task(
        spec=spec,
        model=name,
        run=run.id,
        data=data,
        stage=placed.stage,
        precision=placed.precision,
    )
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"task": task},
        scaling_config=_scaling(spec, model, placed.workers),
        torch_config=ray.train.torch.TorchConfig(timeout_s=int(model.train.stall)),
        run_config=ray.train.RunConfig(
            name=run.id,
            failure_config=ray.train.FailureConfig(max_failures=model.train.restarts),
            **_ray_storage(run),
        ),
    )
    try:
        reason = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        print(error, flush=True)  # with the worker's traceback, into the log
        reason = failure(error)
    if reason is not None:
        attempts = run.attempts()
        with contextlib.suppress(StorageError):  # full, perhaps: the reason is told all the same
            run.fail(attempts[-1].number if attempts else 1, reason)
        raise ValueError(f"{reason}; {safe(run)}")


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


def _work(config: dict[str, Any]) -> str | None:
    """One Ray Train worker; its rank 0 leaves the result in storage.

    What storage refuses to do is returned: raised, it would be tried again from a checkpoint.
    """
    try:
        Worker(config["task"], ray.train.torch.get_device()).work()
    except AgreedError as error:
        return str(error)
    return None


def _on_gpus(spec: Spec, model: ModelSpec) -> bool:
    return any(pool.accelerators for pool in usable_pools(spec.cluster, model.train))


def _scaling(spec: Spec, model: ModelSpec, workers: int) -> ray.train.ScalingConfig:
    """One device per worker where the pool has accelerators, else CPUs."""
    gpus = _on_gpus(spec, model)
    cpus = model.train.cpus_per_worker
    resources = {"CPU": 1.0 if cpus == "auto" else float(cpus)}
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
