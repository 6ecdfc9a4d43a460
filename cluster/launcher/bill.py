"""What a cluster in a cloud costs an hour while it is up, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.prices import head_price, price_of, table

if TYPE_CHECKING:
    from cluster.spec import Spec


def bill(spec: Spec) -> str:
    """The head and its pools at their least and at their most, by the tables or ``price:``."""
    head = head_price(spec)
    sizes = ["a head", *(f"{pool.nodes} machines of {pool.name}" for pool in spec.cluster.pools)]
    priced = [(pool, price_of(spec, pool)) for pool in spec.cluster.pools]
    unknown = [pool.name for pool, price in priced if price is None]
    currencies = {price.currency for _, price in priced if price is not None}
    if head is None or unknown or len(currencies | {head.currency}) > 1:
        of = ", ".join(unknown) or "all of it in one currency"
        return f"{', '.join(sizes)}; no price is known of {of}"
    least = most = head.per_hour
    for pool, price in priced:
        assert price is not None
        least += pool.nodes.min * price.per_hour
        most += pool.nodes.max * price.per_hour
    costs = f"{least:.2f} to {most:.2f}" if most > least else f"{most:.2f}"
    return f"{', '.join(sizes)}: {costs} {head.currency} an hour at {table()['date']}'s prices"
