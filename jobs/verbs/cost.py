"""``slipway cost``: what was spent, per model and stage, from recorded node hours."""

from __future__ import annotations

import time
from typing import Any

from cluster.request import Request
from cluster.storage import open_storage
from jobs.spending import spent, summed
from jobs.usage import usages


def cost(request: Request) -> None:
    """Print node hours and money per model and stage, and how much of the budget is spent."""
    spec = request.spec()
    storage = open_storage(spec.cluster.storage, spec.name)
    rows = summed(spec, usages(storage))
    budget = spent(spec, storage)
    total, currency = _total(rows)
    document: dict[str, Any] = {
        "rows": rows,
        "node_hours": sum(row["node_hours"] for row in rows),
        "total": total,
        "currency": currency,
        "budget": None,
    }
    if budget is not None:
        document["budget"] = {
            "runs": str(budget.budget),
            "spent": budget.amount,
            "share": budget.share,
            "unpriced_node_hours": budget.unpriced_hours,
        }
    request.answer(document)
    request.table(
        ["model", "stage", "runs", "node hours", "cost"],
        [
            [row["model"], row["stage"], str(row["runs"]), _hours(row["node_hours"]), _money(row)]
            for row in rows
        ],
        "nothing was used yet; node hours are recorded as runs go",
    )
    if any(row["cost"] is None for row in rows):
        request.say("? has no price: give the pool one, such as price: 31.2 USD/h")
    elif rows:
        request.say(f"{_hours(document['node_hours'])} node hours, {total:,.2f} {currency} in all")
    if budget is not None:
        month = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        request.say(f"budget at {month}: {budget}")


def _total(rows: list[dict[str, Any]]) -> tuple[float | None, str | None]:
    currencies = {row["currency"] for row in rows}
    if any(row["cost"] is None for row in rows) or len(currencies) > 1:
        return None, None
    return sum(row["cost"] for row in rows), currencies.pop() if currencies else None


def _money(row: dict[str, Any]) -> str:
    return "?" if row["cost"] is None else f"{row['cost']:,.2f} {row['currency']}"


def _hours(hours: float) -> str:
    return f"{hours:,.2f}"
