"""The section ``tune:`` of a model."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cluster.spec.grammar import Amount, Money, Range, Seconds, Share
from cluster.spec.section import Count, Float, Int, Section, chosen_by_type, variant
from cluster.spec.train import SomeAmount

Value = str | int | float | bool | None | tuple[Any, ...] | dict[str, Any]
Bounds = tuple[Float, Float]


class Search(Section):
    """How the next trial is chosen."""

    short = "type"

    type: Literal["grid", "random", "sobol", "tpe", "gp"] = "tpe"
    """grid, random, sobol, tpe (tree of Parzen estimators) or gp (Gaussian process)."""
    startup: Count | None = None
    """Random trials before tpe and gp learn from them; their own choice by default."""


class ASHA(Section):
    """Successive halving without waiting (arXiv:1810.05934)."""

    short = "type"

    type: Literal["asha"] = "asha"
    """Trials go on from rung to rung; the best share of each rung is promoted."""
    grace: SomeAmount = Amount(1.0, "epochs")
    """Training before the first rung."""
    reduction: Annotated[int, Field(strict=True, ge=2)] = 3
    """One of so many goes on to the next rung."""
    max: SomeAmount | None = None
    """Training of a trial at the last rung; the length of train by default."""


class PBT(Section):
    """Population based training (arXiv:1711.09846)."""

    short = "type"

    type: Literal["pbt"]
    """The worst trials go on from the best ones' checkpoints with changed keys."""
    every: SomeAmount = Amount(1.0, "epochs")
    """Training between two exchanges."""
    share: Share = 0.25
    """Share of the trials that is replaced each time."""


class Median(Section):
    """Stops what is worse than the median of the others."""

    short = "type"

    type: Literal["median"]
    """Trials below the median of the others at the same point end."""
    grace: SomeAmount = Amount(1.0, "epochs")
    """Training before a trial may end early."""
    trials: Count = 5
    """Trials that must have got as far before any ends."""


class NoScheduler(Section):
    """Every trial trains to its end."""

    short = "type"

    type: Literal["none"]
    """Every trial trains to its end."""


Scheduler = Annotated[
    Annotated[ASHA, variant("asha")]
    | Annotated[PBT, variant("pbt")]
    | Annotated[Median, variant("median")]
    | Annotated[NoScheduler, variant("none")],
    chosen_by_type("asha"),
]


class Dimension(Section):
    """The values that one key may take: exactly one of the kinds, and maybe a condition."""

    choice: Annotated[tuple[Value, ...] | None, Field(min_length=1)] = None
    """Any of a list; a bare list is the same."""
    uniform: Bounds | None = None
    """A number between two, all alike."""
    log: Bounds | None = None
    """A number between two above 0, all magnitudes alike."""
    integer: Range | None = Field(default=None, alias="int")
    """A whole number of a range, all alike."""
    log_integer: Range | None = Field(default=None, alias="logint")
    """A whole number of a range from 1 on, all magnitudes alike."""
    when: dict[str, Value] = Field(default_factory=dict)
    """Other keys of the space and the value (or list of values) each must have."""

    @model_validator(mode="before")
    @classmethod
    def _list_is_choice(cls, data: Any) -> Any:
        return {"choice": data} if isinstance(data, list | tuple) else data

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(value is not None for value in self._kinds().values()) != 1:
            raise ValueError(f"must have exactly one of {', '.join(self._kinds())}")
        for kind in ("uniform", "log"):
            bounds = self._kinds()[kind]
            if bounds is not None and bounds[0] >= bounds[1]:
                raise ValueError(f"{kind}: {bounds[0]:g} must be below {bounds[1]:g}")
        if (self.log and self.log[0] <= 0) or (self.log_integer and self.log_integer.min < 1):
            raise ValueError("a logarithmic range must begin above 0")
        return self

    def _kinds(self) -> dict[str, Any]:
        return {
            "choice": self.choice,
            "uniform": self.uniform,
            "log": self.log,
            "int": self.integer,
            "logint": self.log_integer,
        }

    @property
    def kind(self) -> str:
        """``choice``, ``uniform``, ``log``, ``int`` or ``logint``."""
        return next(kind for kind, value in self._kinds().items() if value is not None)

    def corners(self) -> tuple[Any, ...]:
        """All values of a list, or the two ends of a range."""
        value = self._kinds()[self.kind]
        if isinstance(value, Range):
            return (value.min, value.max)
        return tuple(value)


class TuneSpec(Section):
    """A search for the best values of any of the model's keys."""

    trials: Count = 32
    """Number of trials."""
    search: Search = Search()
    """How the next trial is chosen."""
    scheduler: Scheduler = ASHA()
    """Which trials end early."""
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Dotted key of the model to the values it may take: a list, {uniform: [a, b]},
    {log: [a, b]}, {int: a..b} or {logint: a..b}, each with when: if it depends on others."""
    points: tuple[dict[str, Value], ...] = ()
    """Points of the space to try first."""
    warm_start: str | None = None
    """Run of an earlier sweep to learn from."""
    parallel: Count | None = None
    """Trials at once; as many as the cluster holds by default."""
    time: Seconds | None = None
    """Time at which no more trials start; no bound by default."""
    cost: Money | None = None
    """Cost at which no more trials start; no bound by default."""
    patience: Count | None = None
    """Trials without a better one at which the sweep ends; no bound by default."""
    failures: Share = 0.5
    """Share of failed trials at which the sweep ends."""
    seed: Int = 0
    """Seed of the search."""
