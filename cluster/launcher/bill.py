"""What a cluster in a cloud may take: machines, and what they cost an hour while it is up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.prices import head_price, price_of, table

if TYPE_CHECKING:
    from cluster.spec import Spec

CENT = 0.01


@dataclass(frozen=True)
class Bill:
    """The machines beside the head, and what an hour of all costs: at the least and at the most."""

    least: int
    most: int
    least_cost: float | None = None
    most_cost: float | None = None
    """None where nobody says what one of the machines costs."""
    currency: str = ""

    def is_above(self, other: Bill) -> bool:
        """Whether it may take more machines or money than the other, or nobody can tell."""
        if self.least > other.least or self.most > other.most:
            return True
        pairs = (self.least_cost, other.least_cost), (self.most_cost, other.most_cost)
        return self.currency != other.currency or any(
            mine is None or its is None or mine > its + CENT / 2 for mine, its in pairs
        )

    def __str__(self) -> str:
        return f"a head and {_range(self.least, self.most)} machines{self.costs()}"

    def costs(self) -> str:
        """The money alone, after a colon; "" where it is not known."""
        if self.least_cost is None or self.most_cost is None:
            return ""
        shown = _range(f"{self.least_cost:.2f}", f"{self.most_cost:.2f}")
        return f": {shown} {self.currency} an hour"


def bill_of(spec: Spec) -> Bill:
    """The head and its pools at their least and at their most, by the tables or ``price:``."""
    pools, head = spec.cluster.pools, head_price(spec)
    least, most = sum(pool.nodes.min for pool in pools), sum(pool.nodes.max for pool in pools)
    if head is None or _unpriced(spec):
        return Bill(least, most)
    costs = [head.per_hour, head.per_hour]
    for pool in pools:
        price = price_of(spec, pool)
        assert price is not None
        if price.currency != head.currency:
            return Bill(least, most)
        costs[0] += pool.nodes.min * price.per_hour
        costs[1] += pool.nodes.max * price.per_hour
    return Bill(least, most, costs[0], costs[1], head.currency)


def shown_bill(spec: Spec) -> str:
    """The same in one line, with each pool's size."""
    bill = bill_of(spec)
    sizes = ["a head", *(f"{pool.nodes} machines of {pool.name}" for pool in spec.cluster.pools)]
    if costs := bill.costs():
        return f"{', '.join(sizes)}{costs} at {table()['date']}'s prices"
    of = ", ".join(_unpriced(spec)) or "all of it in one currency"
    return f"{', '.join(sizes)}; no price is known of {of}"


def _unpriced(spec: Spec) -> list[str]:
    return [pool.name for pool in spec.cluster.pools if price_of(spec, pool) is None]


def _range(least: object, most: object) -> str:
    return f"{most}" if least == most else f"{least} to {most}"
