"""What a cluster in a cloud may take: machines, and what they cost an hour while it is up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.launcher.machines import NodeType, worker_types
from cluster.prices import Price, head_price, price_of, table

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
    """The head and its pools at their least and at their most, by the tables or ``price:``.

    At the most the bound of all pools together is filled with the dearest of the alternatives.
    """
    head, pools, kinds = head_price(spec), spec.cluster.pools, _kinds(spec)
    least, most = sum(pool.nodes.min for pool in pools), sum(pool.nodes.max for pool in pools)
    prices = [head, *(price for _, price in kinds)]
    if None in prices or len({price.currency for price in prices if price}) > 1:
        return Bill(least, most)
    rows = [(price.per_hour, node) for node, price in kinds if price]
    assert head is not None
    least_cost = head.per_hour + sum(node.least * each for each, node in rows)
    most_cost, spare = least_cost, most - least
    for each, node in sorted(rows, key=lambda row: -row[0]):
        count = min(spare, node.most - node.least)
        most_cost, spare = most_cost + count * each, spare - count
    return Bill(least, most, least_cost, most_cost, head.currency)


def shown_bill(spec: Spec) -> str:
    """The same in one line, with each pool's size."""
    bill = bill_of(spec)
    sizes = ["a head", *(f"{pool.nodes} machines of {pool.name}" for pool in spec.cluster.pools)]
    if costs := bill.costs():
        return f"{', '.join(sizes)}{costs} at {table()['date']}'s prices"
    unknown = [node.name for node, price in _kinds(spec) if price is None]
    of = ", ".join(unknown) or "all of it in one currency"
    return f"{', '.join(sizes)}; no price is known of {of}"


def _kinds(spec: Spec) -> list[tuple[NodeType, Price | None]]:
    """Every type of nodes with its price: alternatives are types of their own."""
    found = []
    for node in worker_types(spec):
        pool = spec.cluster.pool(node.pool or "")
        assert pool is not None
        found.append((node, price_of(spec, pool, node.accelerator)))
    return found


def _range(least: object, most: object) -> str:
    return f"{most}" if least == most else f"{least} to {most}"
