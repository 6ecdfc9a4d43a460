"""What of a sweep cannot work, beside the values of its space."""

from collections.abc import Iterator

from cluster.spec.capacity import worker_sizes
from cluster.spec.document import Spec
from cluster.spec.models import ModelSpec
from cluster.spec.translate import Finding
from cluster.spec.tune import PBT, Dimension, TuneSpec

CHANGEABLE = ("train.optimizer.", "train.augment.", "train.clip", "train.label_smoothing")
"""Keys that may change in the middle of a training: neither its length, data nor weights' shapes
depend on them."""


def is_changeable(key: str) -> bool:
    """Whether population based training may change a key on the way."""
    return key.startswith(CHANGEABLE) or key == "network.dropout"


def check_sweep(_: Spec, __: str, model: ModelSpec) -> Iterator[Finding]:
    """What a sweep would search in vain, or with means that it does not have."""
    tune = model.tune
    if tune is None:
        return
    if model.data.split.validation == 0:
        message = "trials are compared on a validation part, and data.split.validation is 0%"
        yield message, ("tune",)
    if isinstance(tune.scheduler, PBT):
        yield from _population(tune, tune.scheduler)
    if tune.cost is not None and tune.cost.per is not None:
        message = f"{tune.cost} is a price, not a cost; write one like 50 {tune.cost.currency}"
        yield message, ("tune", "cost")
    dimension = tune.space.get("train.global_batch")
    if dimension is not None:
        yield from _batches(model, dimension)


def _population(tune: TuneSpec, scheduler: PBT) -> Iterator[Finding]:
    if not any(is_changeable(key) for key in tune.space):
        yield (
            "pbt changes keys during training, and none of space can be: it needs one of "
            "train.optimizer, train.augment, train.clip, train.label_smoothing, network.dropout",
            ("tune", "scheduler"),
        )
    if tune.trials < 2:
        yield "pbt exchanges between trials and needs 2 at least", ("tune", "trials")
    if not 0 < scheduler.share <= 0.5:
        message = "must be above 0% and at most 50%: those replaced learn from as many others"
        yield message, ("tune", "scheduler", "share")


def _batches(model: ModelSpec, dimension: Dimension) -> Iterator[Finding]:
    """Trials whose batch their workers could not share."""
    if dimension.choice is None and model.train.workers.min > 1:
        message = f"{model.train.workers.min} workers cannot share every batch of a range"
        yield f"{message}; list the sizes", ("tune", "space", "train.global_batch")
        return
    for size in dimension.corners():
        if isinstance(size, int) and not worker_sizes(
            model.train.model_copy(update={"global_batch": size})
        ):
            message = f"{size} records cannot be shared evenly by {model.train.workers} workers"
            yield message, ("tune", "space", "train.global_batch")
