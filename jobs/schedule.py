"""Learning rates as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from cluster.spec import TrainSpec


def num_steps(train: TrainSpec, num_rows: int) -> int:
    """Optimizer steps of the whole run: ``steps``, or ``epochs`` over ``num_rows`` rounded up."""
    if train.steps is not None:
        return int(train.steps)
    assert train.epochs is not None
    return max(1, math.ceil(train.epochs * num_rows / train.global_batch))


def steps_per_epoch(train: TrainSpec, num_rows: int) -> int:
    """Optimizer steps that pass over the training rows once, rounded up."""
    return max(1, math.ceil(num_rows / train.global_batch))


def warmup_steps(train: TrainSpec, num_rows: int) -> int:
    """Steps of linear warm-up; 0 where the spec asks for none."""
    warmup = train.schedule.warmup
    if not warmup.value:
        return 0
    return warmup.in_steps(steps_per_epoch(train, num_rows), num_steps(train, num_rows))


def learning_rate(train: TrainSpec, step: int, total: int, warmup: int) -> float:
    """Return the rate of 0-based ``step``: linear warm-up, then constant, linear or cosine decay.

    Decays to ``schedule.final`` x lr at ``total``. Cosine: Loshchilov and Hutter,
    arXiv 1608.03983, without restarts.
    """
    peak, final = train.optimizer.lr, train.schedule.final
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if train.schedule.type == "constant":
        return peak
    if train.schedule.type == "linear":
        return peak * (1 - (1 - final) * progress)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))
