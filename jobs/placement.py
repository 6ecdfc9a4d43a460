"""How a run is placed: workers, ZeRO stage and precision. Its checkpoint fits any placement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.plan import resolved_stage
from cluster.spec import Spec, resolve_precision, worker_sizes, worker_slots


@dataclass(frozen=True)
class Placement:
    """What all workers of a run agree on."""

    workers: int
    stage: int
    precision: str


def place(
    spec: Spec, name: str, sizes: Mapping[str, int] | None = None, room: int | None = None
) -> Placement:
    """Place a run on its cluster: the most workers that share the batch evenly and fit.

    `sizes` is what storage knows of the network's size: see `jobs.sizes`; `room` how many workers
    the cluster can hold at present, where that is known. Raises ValueError where no number fits.
    """
    model = spec.model(name)
    slots = [n for n in (worker_slots(spec.cluster, model.train), room) if n is not None]
    fitting = [n for n in worker_sizes(model.train) if not slots or n <= min(slots)]
    if not fitting:
        raise ValueError(
            f"train.workers: {model.train.workers} do not fit the cluster, which holds {min(slots)}"
        )
    return Placement(
        workers=max(fitting),
        stage=resolved_stage(spec, name, max(fitting), sizes),
        precision=resolve_precision(spec.cluster, model.train),
    )
