"""How many trials a cluster holds at once, and of how many workers each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.spec import Range, Spec, share_of_cpus, worker_sizes, worker_slots


@dataclass(frozen=True)
class Room:
    """Trials at once, and what each of them takes."""

    parallel: int
    workers: int
    slots: int | None
    """Workers that the cluster holds; None where the file does not say."""

    @property
    def total(self) -> int:
        """Workers of all trials at once."""
        return self.parallel * self.workers

    def describe(self) -> str:
        """What runs beside what, in a few words."""
        trials = "1 trial" if self.parallel == 1 else f"{self.parallel} trials"
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        held = "" if self.slots is None else f"; the cluster holds {self.slots}"
        return f"{trials} at a time, {workers} each{held}"


def room_of(spec: Spec, name: str, slots: int | None = None) -> Room:
    """Room for a model's trials; ``slots`` is what a cluster has whose size the file leaves open.

    A trial takes the most workers of ``train.workers`` that fit and share the batch evenly.
    Raises ValueError where not even the fewest fit: such a trial would wait for ever.
    """
    model = spec.model(name)
    assert model.tune is not None
    known = worker_slots(spec.cluster, model.train)
    slots = slots if known is None else known
    sizes = worker_sizes(model.train)
    fitting = [size for size in sizes if slots is None or size <= slots]
    if not fitting:
        raise ValueError(
            f"models.{name}.tune: a trial takes {min(sizes, default=model.train.workers.min)} "
            f"workers (train.workers: {model.train.workers}) and the cluster holds {slots} at "
            "most, so that no trial could ever start; lower train.workers or "
            "train.cpus_per_worker, or give the cluster more"
        )
    workers = max(fitting)
    most = model.tune.trials if slots is None else slots // workers
    return Room(max(1, min(most, model.tune.parallel or most, model.tune.trials)), workers, slots)


def fitted(spec: Spec, name: str, room: Room) -> Spec:
    """The spec with no more workers than a trial has room for, where the file does not tell."""
    train = spec.model(name).train
    workers = Range(min(train.workers.min, room.workers), room.workers)
    return _with_train(spec, name, {"workers": workers})


def shared_out(spec: Spec, name: str, room: Room, largest: int | None = None) -> Spec:
    """The spec with the cluster's CPUs shared by so many trials, where it does not say.

    ``largest`` is what one node of a cluster has whose size the file leaves open.
    """
    model = spec.model(name)
    if model.train.cpus_per_worker != "auto" or room.slots is None:
        return spec
    cpus = share_of_cpus(spec.cluster, model.train, room.total)
    if worker_slots(spec.cluster, model.train) is None:
        cpus = max(1, min(room.slots // room.total, largest or room.slots))
    return _with_train(spec, name, {"cpus_per_worker": float(cpus)})


def _with_train(spec: Spec, name: str, update: dict[str, Any]) -> Spec:
    model = spec.model(name)
    section = model.train.model_copy(update=update)
    changed = model.model_copy(update={"train": section})
    return spec.model_copy(update={"models": spec.models | {name: changed}})
