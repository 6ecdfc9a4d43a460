"""What was spent, from node hours: per model and stage, and in the budget's period."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from cluster.prices import price_of
from cluster.spec import Spec
from cluster.spec.grammar import Money
from cluster.storage import Storage
from jobs.usage import Usage, usages


class OverBudgetError(ValueError):
    """The budget of the period is used up: no new run starts."""

    exit_code = 2


class UnpricedError(ValueError):
    """What runs spend has no price in the budget's currency: the budget would never be used up."""

    exit_code = 2


@dataclass(frozen=True)
class Spent:
    """Money and node hours of one period, and what the budget says of them."""

    amount: float
    """In the budget's currency."""
    unpriced_hours: float
    """Node hours that nobody gave a price for, in the budget's currency."""
    budget: Money
    warn: float
    rate: float = 0.0
    """What running stages spend in a second."""

    @property
    def left_s(self) -> float:
        """Seconds until the next bound, the warning's or the budget's, at this rate."""
        next_bound = self.budget.value * (1.0 if self.is_near else self.warn)
        return max(0.0, next_bound - self.amount) / self.rate if self.rate else float("inf")

    @property
    def share(self) -> float:
        """Of the budget."""
        return self.amount / self.budget.value if self.budget.value else float("inf")

    @property
    def is_over(self) -> bool:
        """Whether new runs are refused and running ones stopped."""
        return self.amount >= self.budget.value

    @property
    def is_near(self) -> bool:
        """Whether it is time to warn."""
        return self.share >= self.warn

    def __str__(self) -> str:
        spent = f"{self.amount:,.2f} of {self.budget} are spent ({self.share:.0%})"
        if self.unpriced_hours:
            spent += f", without {self.unpriced_hours:,.1f} node hours of unknown price"
        return spent


def spent(spec: Spec, storage: Storage, now: float | None = None) -> Spent | None:
    """What runs have spent in the budget's period; None without a budget."""
    budget = spec.cluster.budget
    if budget is None:
        return None
    now = time.time() if now is None else now
    since = period_start(budget.runs, now)
    amount = unpriced = rate = 0.0
    for usage in usages(storage, since):
        live = usage.is_live(now)
        cost, currency = cost_of(spec, replace(usage, until=now) if live else usage, since)
        if cost is None or currency != budget.runs.currency:
            unpriced += usage.node_hours(since)
            continue
        amount += cost
        rate += cost / max(1.0, now - max(usage.began, since)) if live else 0.0
    return Spent(amount, unpriced, budget.runs, budget.warn, rate)


def check_budget(spec: Spec, storage: Storage) -> None:
    """Raise OverBudgetError or UnpricedError where a new run must not start."""
    reason = why_unkept(spec)
    if reason is not None:
        raise UnpricedError(reason)
    found = spent(spec, storage)
    if found is not None and found.is_over:
        raise OverBudgetError(
            f"the budget is used up: {found}; {_way_on(found.budget)} "
            "(slipway cost shows where it went; services go on)"
        )


def why_unkept(spec: Spec) -> str | None:
    """Why no run would ever use the budget up, and what to add; None where it is kept."""
    budget = spec.cluster.budget
    if budget is None:
        return None
    wanted = budget.runs.currency
    for pool in spec.cluster.pools:
        price = price_of(spec, pool)
        if price is None or price.currency != wanted:
            known = f"is known in {price.currency} only" if price else "is not known"
            return (
                f"budget: {budget.runs} cannot be kept, for the price of pool {pool.name} {known}; "
                f"say it: price: NUMBER {wanted}/h in that pool"
            )
    if not spec.cluster.pools:
        return (
            f"budget: {budget.runs} cannot be kept, for nobody says what this machine costs; "
            f"name it: pools: [{{name: here, price: NUMBER {wanted}/h}}]"
        )
    return None


def cost_of(spec: Spec, usage: Usage, since: float = 0.0) -> tuple[float | None, str | None]:
    """(money, currency): by the price when it ran, else by today's; None where nobody says."""
    hours = usage.node_hours(since)
    if usage.price is not None:
        return hours * usage.price, usage.currency
    pool = spec.cluster.pool(usage.pool) if usage.pool else None
    price = price_of(spec, pool) if pool else None
    return (hours * price.per_hour, price.currency) if price else (None, None)


def summed(spec: Spec, found: Iterable[Usage]) -> list[dict[str, Any]]:
    """A row for each model and stage: {"model", "stage", "runs", "node_hours", "cost", "currency"}.

    ``cost`` is None where a part of it has no price.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for usage in found:
        cost, currency = cost_of(spec, usage)
        row = rows.setdefault(
            (usage.model, usage.stage),
            {"runs": set(), "node_hours": 0.0, "cost": 0.0, "currency": currency},
        )
        row["runs"].add(usage.run)
        row["node_hours"] += usage.node_hours()
        known = None not in (row["cost"], cost) and currency == row["currency"]
        row["cost"] = row["cost"] + cost if known else None
    return [
        {"model": model, "stage": stage, **row, "runs": len(row["runs"])}
        for (model, stage), row in sorted(rows.items())
    ]


def by_run(spec: Spec, found: Iterable[Usage]) -> dict[str, dict[str, Any]]:
    """Run -> {"node_hours", "cost", "currency"}, as `summed`."""
    runs: dict[str, list[Usage]] = {}
    for usage in found:
        runs.setdefault(usage.run, []).append(usage)
    totals = {}
    for run, own in runs.items():
        costs = [cost_of(spec, usage) for usage in own]
        known = [cost for cost, _ in costs if cost is not None]
        totals[run] = {
            "node_hours": sum(usage.node_hours() for usage in own),
            "cost": sum(known) if len(known) == len(costs) else None,
            "currency": costs[0][1],
        }
    return totals


def period_start(budget: Money, now: float) -> float:
    """When the current period began, in UTC: of a budget without one, at the very beginning."""
    moment = time.gmtime(now)
    lengths = {None: 0, "month": 2, "day": 3, "h": 4}
    if budget.per is None:
        return 0.0
    kept = tuple(moment[: lengths[budget.per]])
    return float(calendar.timegm((*kept, *(1, 1, 1, 0, 0, 0)[len(kept) :], 0, 0, 0)))


def _way_on(budget: Money) -> str:
    later = {"month": "next month", "day": "tomorrow", "h": "in an hour"}.get(budget.per or "")
    raised = "raise cluster.budget.runs"
    return f"{raised}, or wait until {later}" if later else raised
