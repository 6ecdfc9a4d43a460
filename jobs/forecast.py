"""What a model's training will take: nodes, hours and money, before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.plan import MemoryPlan, memory_plan, num_nodes, pool_of
from cluster.prices import Price, head_price, price_of
from cluster.spec import Pool, Spec
from cluster.speed import Speed
from cluster.storage import Storage
from jobs.calibration import speed_of
from jobs.schedule import num_steps
from jobs.sizes import concrete, sizes_of


@dataclass(frozen=True)
class Needs:
    """What a run takes: its workers at once, and all of it in words."""

    workers: int
    text: str


@dataclass(frozen=True)
class Forecast:
    """One model's training; None for what nothing tells yet."""

    memory: MemoryPlan | None
    workers: int
    nodes: int
    pool: Pool | None
    steps: int | None
    speed: Speed | None
    price: Price | None
    """Of one node, an hour."""
    head: Price | None
    """Of the head's machine, an hour."""

    @property
    def hours(self) -> float | None:
        """Of the training's steps."""
        if self.speed is None or self.steps is None:
            return None
        return self.steps * self.speed.step_s / 3600

    @property
    def per_hour(self) -> float | None:
        """Of all its nodes and the head, on the pool's own terms."""
        return self._sum(self.price.per_hour if self.price else None)

    def total(self, terms: str = "own") -> float | None:
        """What it costs in all: on the pool's own terms, "on_demand" or "spot"."""
        if self.price is None:
            return None
        each = {
            "own": self.price.per_hour,
            "on_demand": self.price.on_demand,
            "spot": self.price.spot,
        }[terms]
        per_hour = self._sum(each)
        return None if per_hour is None or self.hours is None else per_hour * self.hours

    def _sum(self, each: float | None) -> float | None:
        if each is None:
            return None
        return self.nodes * each + (self.head.per_hour if self.head else 0.0)


def forecast(
    spec: Spec, name: str, storage: Storage, data: str | None = None, rows: int | None = None
) -> Forecast:
    """What is known before a model trains; `data` and `rows` are those of its prepared data."""
    built = concrete(spec, name, storage)
    model = built.model(name)
    memory = memory_plan(built, name, sizes=sizes_of(model, storage, data))
    train, pool = model.train, pool_of(built, model)
    workers = memory.workers if memory else train.workers.max
    steps = train.steps or (num_steps(train, rows) if rows else None)
    return Forecast(
        memory=memory,
        workers=workers,
        nodes=num_nodes(built, model, workers),
        pool=pool,
        steps=steps,
        speed=speed_of(built, name, storage, memory),
        price=price_of(built, pool) if pool else None,
        head=head_price(built),
    )
