"""How a run is placed: workers, ZeRO stage and precision, within what its checkpoint allows."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.plan import resolved_stage
from cluster.spec import ModelSpec, Spec, resolve_precision, worker_sizes, worker_slots
from jobs.runs import Checkpoint, Run, latest_checkpoint


@dataclass(frozen=True)
class Placement:
    """What all workers of a run agree on."""

    workers: int
    stage: int
    precision: str


def place(spec: Spec, name: str, run: Run) -> Placement:
    """Place a run on its cluster; one that was cut off goes on as its checkpoint was saved.

    Raises ValueError where the cluster cannot hold it, or the checkpoint needs another placement.
    """
    model = spec.model(name)
    saved = latest_checkpoint(run)
    wanted = Placement(
        workers=_workers(spec, model, saved),
        stage=_stage(spec, name, saved),
        precision=resolve_precision(spec.cluster, model.train),
    )
    if saved is not None:
        _check(run, wanted, saved)
    return wanted


def _workers(spec: Spec, model: ModelSpec, saved: Checkpoint | None) -> int:
    """The most workers that share the batch evenly and fit; as many as before where that holds."""
    sizes = worker_sizes(model.train)
    slots = worker_slots(spec.cluster, model.train)
    fitting = [size for size in sizes if slots is None or size <= slots]
    if not fitting:
        raise ValueError(
            f"train.workers: {model.train.workers} do not fit the cluster, which holds {slots}"
        )
    before = saved.manifest["world_size"] if saved is not None else None
    return before if before in fitting else max(fitting)


def _stage(spec: Spec, name: str, saved: Checkpoint | None) -> int:
    """``auto`` keeps the stage of the checkpoint."""
    if saved is not None and spec.model(name).train.zero.stage == "auto":
        return int(saved.manifest["zero_stage"])
    return resolved_stage(spec, name)


def _check(run: Run, wanted: Placement, saved: Checkpoint) -> None:
    """Refuse a placement that the engine cannot load the checkpoint with."""
    pairs = (
        ("train.workers", wanted.workers, saved.manifest["world_size"]),
        ("train.zero.stage", wanted.stage, saved.manifest["zero_stage"]),
        ("train.precision", wanted.precision, saved.manifest["precision"]),
    )
    for key, now, before in pairs:
        if now != before:
            raise ValueError(
                f"{run.id} stopped at step {saved.step} with {key}: {before}, and cannot go on "
                f"with {now}; set {key}: {before} to resume it, or train anew with --again"
            )
