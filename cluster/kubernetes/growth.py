"""Whether what is applied gets more nodes or dearer ones, and what it then costs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.documents import Document
from cluster.kubernetes import names
from cluster.prices import hourly, price_of, table
from cluster.spec.clusters import POOL
from cluster.spec.grammar import Money

if TYPE_CHECKING:
    from cluster.spec import Pool, Spec


@dataclass(frozen=True)
class Size:
    """A group: its nodes, the devices of each, its price an hour, and where its pods may run."""

    least: int
    most: int
    devices: int
    price: Money | None
    places: Any

    def exceeds(self, other: Size) -> bool:
        """Whether it may cost more than another."""
        more = (self.least, other.least), (self.most, other.most), (self.devices, other.devices)
        return any(mine > theirs for mine, theirs in more) or self._is_dearer(other)

    def _is_dearer(self, other: Size) -> bool:
        """Nodes of another kind may be, where nobody says what both cost."""
        if self.price is None or other.price is None:
            return self.price is not other.price or self.places != other.places
        return self.price.currency != other.price.currency or self.price.value > other.price.value


def grows(there: Document | None, wanted: Document) -> bool:
    """Whether a RayCluster or RayService gets more nodes than it has, or nodes that cost more."""
    if there is None or there["metadata"].get("deletionTimestamp"):
        return True
    before = _sizes(there)
    return any(
        name not in before or size.exceeds(before[name]) for name, size in _sizes(wanted).items()
    )


def prices(spec: Spec, pools: Iterable[Pool]) -> dict[str, str]:
    """The annotation by which the next ``up`` or ``serve`` knows what nodes cost until then."""
    found = {pool.name: price_of(spec, pool) for pool in pools}
    known = [
        f"{name}={Money(price.per_hour, price.currency, 'h')}"
        for name, price in found.items()
        if price is not None
    ]
    return {names.PRICES: ", ".join(known)} if known else {}


def bill(spec: Spec, pools: Iterable[Pool]) -> str:
    """The head and the pools, and what these cost an hour, by ``price:`` or the table."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    pools = list(pools)
    nodes = ", ".join(["a head", *map(_nodes, pools)])
    found = hourly(spec, pools, held=provider.queue is not None)
    said = [
        f"{least:,.2f} to {most:,.2f} {currency}" if least < most else f"{most:,.2f} {currency}"
        for currency, (least, most) in found.costs.items()
    ]
    if said:
        listed = any(pool.price is None and price_of(spec, pool) for pool in pools)
        dated = f" at {table()['date']}'s prices" if listed else ""
        nodes += f": {' and '.join(said)} an hour{dated}"
    if found.unknown:
        nodes += f"; no price is known of {', '.join(found.unknown)} (price: of a pool says it)"
    return nodes


def _nodes(pool: Pool) -> str:
    kinds = f" ({' or '.join(map(str, pool.accelerators))})" if pool.accelerators else ""
    spot = ", spot" if pool.spot else ""
    return f"{pool.nodes} nodes of {pool.name}{kinds}{spot}"


def _sizes(document: Document) -> dict[str, Size]:
    cluster = document["spec"].get("rayClusterConfig", document["spec"])
    known = _prices(document)
    return {
        group["groupName"]: Size(
            least=group["minReplicas"],
            most=group["maxReplicas"],
            devices=_devices(group),
            price=known.get(group.get("labels", {}).get(POOL, "")),
            places=group["template"]["spec"].get("affinity"),
        )
        for group in cluster.get("workerGroupSpecs") or ()
    }


def _prices(document: Document) -> dict[str, Money]:
    text = (document["metadata"].get("annotations") or {}).get(names.PRICES, "")
    pairs = [each.split("=") for each in text.split(", ") if each]
    return {pool: Money.parse(price) for pool, price in pairs}


def _devices(group: Document) -> int:
    """The accelerators of a pod: KubeRay's container is the first."""
    limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    return max((int(n) for name, n in limits.items() if name.endswith("/gpu")), default=0)
