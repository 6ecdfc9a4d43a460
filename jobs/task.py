"""What a worker is told of a run, how long the run is, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.spec import Spec, TrainSpec
from jobs.schedule import num_steps, steps_per_epoch, warmup_steps


@dataclass(frozen=True)
class Task:
    """What every worker of a run is told; small and picklable."""

    spec: Spec
    model: str
    run: str
    data: str
    stage: int
    precision: str
    until: int | None = None
    """Step at which the run pauses with a checkpoint, to be continued or not, and publishes
    nothing, not even at its end; None trains to the end and publishes a version."""


@dataclass(frozen=True)
class Plan:
    """A run in steps: its length, this part's end, and how often what is due."""

    total: int
    end: int
    warmup: int
    checkpoint_every: int
    validate_every: int

    @classmethod
    def of(cls, train: TrainSpec, num_rows: int, until: int | None = None) -> Plan:
        """The plan of a run over ``num_rows`` training rows that pauses at step ``until``."""
        total = num_steps(train, num_rows)
        per_epoch = steps_per_epoch(train, num_rows)
        return cls(
            total=total,
            end=min(total, until or total),
            warmup=warmup_steps(train, num_rows),
            checkpoint_every=train.checkpoint.every.in_steps(per_epoch, total),
            validate_every=train.validation.every.in_steps(per_epoch, total),
        )


@dataclass
class Progress:
    """Where a run stands; ``best`` is the validation metric that the spec names."""

    step: int = 0
    best: float | None = None
    since_best: int = 0

    def judge(self, value: float, higher: bool) -> None:
        """Take a validation's metric into account."""
        better = self.best is None or (value > self.best if higher else value < self.best)
        self.since_best = 0 if better else self.since_best + 1
        self.best = value if better else self.best
