"""The part of a plan that is about time and money, against the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.request import Request
from cluster.spec import Spec
from jobs.forecast import Forecast
from jobs.spending import why_unkept

Forecasts = Mapping[str, Forecast]


def time_document(found: Forecast) -> dict[str, Any]:
    """The JSON of one model's time and nodes."""
    accelerators = found.pool.accelerators if found.pool else ()
    return {
        "workers": found.workers,
        "nodes": found.nodes,
        "pool": found.pool.name if found.pool else None,
        "accelerators": str(accelerators[0]) if accelerators else None,
        "steps": found.steps,
        "step_s": found.speed.step_s if found.speed else None,
        "hours": found.hours,
        "how": found.speed.how if found.speed else None,
        "measured": found.speed.is_measured if found.speed else False,
        "price": _price_of_model(found),
    }


def price_document(spec: Spec, forecasts: Forecasts) -> dict[str, Any]:
    """The hours and the price of all models, one after the other; None where one is unknown."""
    totals = {
        terms: _sum([found.total(terms) for found in forecasts.values()])
        for terms in ("own", "on_demand", "spot")
    }
    budget = spec.cluster.budget
    return {
        "hours": _sum([found.hours for found in forecasts.values()]),
        "price": totals["own"],
        "pricing": {
            "currency": _currency(forecasts),
            "on_demand": totals["on_demand"],
            "spot": totals["spot"],
            "budget": str(budget.runs) if budget else None,
        },
    }


def show_time(request: Request, name: str, found: Forecast) -> None:
    """Print on how many nodes for how long a model trains, and how that is known."""
    request.say(f"{name}: {describe(found)}\n")


def describe(found: Forecast) -> str:
    """Nodes, hours and price of a training in one sentence."""
    on = "this machine"
    if found.pool is not None:
        kind = f" ({found.pool.accelerators[0]})" if found.pool.accelerators else ""
        on = f"{found.nodes} node{'s' if found.nodes > 1 else ''} of {found.pool.name}{kind}"
        on += " and further pools" if found.nodes > found.pool.nodes.max else ""
    parts = [f"on {on}, {_time(found)}"]
    per_hour, total = found.per_hour, found.total()
    if found.price is not None and per_hour is not None:
        each = f"{per_hour:,.2f} {found.price.currency} an hour"
        parts.append(f"{each} ({found.price.source})")
        parts.append(_in_all(found) if total is not None else "in all unknown")
    return "; ".join(parts)


def show_price(request: Request, spec: Spec, forecasts: Forecasts) -> None:
    """Print what all trainings cost together, against the budget."""
    document = price_document(spec, forecasts)
    budget, total = spec.cluster.budget, document["price"]
    if total is not None and len(forecasts) > 1:
        request.say(f"all together: {document['hours']:.2f} h, {total:,.2f} {_currency(forecasts)}")
    if budget is None:
        return
    unkept = why_unkept(spec)
    if unkept is not None:
        request.say(f"{unkept}; until then no run starts")
        return
    line = f"budget: {budget.runs}"
    if total is not None and budget.runs.currency == _currency(forecasts):
        share = total / budget.runs.value if budget.runs.value else float("inf")
        line += f"; this takes {share:.0%} of it"
        if share > 1:
            line += ": runs are saved and stopped before they end"
    elif total is None:
        line += "; what this takes is unknown"
    request.say(line)


def _time(found: Forecast) -> str:
    if found.speed is None:
        return "time unknown until a first run is measured"
    each = f"{_seconds(found.speed.step_s)} a step"
    if found.hours is None:
        return f"{each} ({found.speed.how}); how many steps is known once the data is prepared"
    return f"about {_hours(found.hours)}, {each} ({found.speed.how})"


def _in_all(found: Forecast) -> str:
    assert found.price is not None
    total = found.total()
    other = "on_demand" if found.price.is_spot else "spot"
    said = f"{total:,.2f} {found.price.currency} in all"
    compared = found.total(other)
    if compared is None or compared == total:
        return said
    return f"{said}, {other.replace('_', ' ')} {compared:,.2f}"


def _price_of_model(found: Forecast) -> dict[str, Any] | None:
    if found.price is None:
        return None
    return {
        "currency": found.price.currency,
        "per_hour": found.per_hour,
        "node_per_hour": {"on_demand": found.price.on_demand, "spot": found.price.spot},
        "total": found.total(),
        "on_demand": found.total("on_demand"),
        "spot": found.total("spot"),
        "source": found.price.source,
    }


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _currency(forecasts: Forecasts) -> str | None:
    found = {each.price.currency for each in forecasts.values() if each.price}
    return found.pop() if len(found) == 1 else None


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:,.1f} h"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
