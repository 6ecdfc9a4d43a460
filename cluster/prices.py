"""What a node costs: what the pool says, else the dated table ``prices.yaml``. Pure.

Nothing is asked of a cloud. A cluster on Kubernetes is priced where its platform tells the cloud.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.documents import read_document
from cluster.machines import CLOUDS, kinds, machine_of, machine_with

if TYPE_CHECKING:
    from cluster.spec import Pool, Spec
    from cluster.spec.grammar import Accelerator

GIB = 2**30
PLATFORMS = {"gke": "gcp", "eks": "aws", "karpenter": "aws", "aks": "azure"}


@dataclass(frozen=True)
class Price:
    """What one node costs an hour, and who says so; None where nobody does."""

    on_demand: float | None
    spot: float | None
    is_spot: bool
    currency: str
    source: str

    @property
    def per_hour(self) -> float:
        """On the pool's own terms; without a spot price the one on demand, which is no less."""
        own = self.spot if self.is_spot and self.spot is not None else self.on_demand
        assert own is not None
        return own


@dataclass(frozen=True)
class Hourly:
    """What pools cost an hour: (least, most) by currency, and the pools that nobody prices."""

    costs: dict[str, tuple[float, float]]
    unknown: tuple[str, ...]


def hourly(spec: Spec, pools: Iterable[Pool], held: bool = False) -> Hourly:
    """What pools cost an hour at their least and at their most, which is both where it is held.

    At the most every node is of the dearest alternative.
    """
    costs: dict[str, tuple[float, float]] = {}
    unknown = []
    for pool in pools:
        first, dearest = price_of(spec, pool), dearest_of(spec, pool)
        if first is None or dearest is None:
            unknown.append(pool.name)
            continue
        least, most = costs.get(first.currency, (0.0, 0.0))
        fewest = pool.nodes.max if held else pool.nodes.min
        least, most = least + fewest * first.per_hour, most + pool.nodes.max * dearest.per_hour
        costs[first.currency] = least, most
    return Hourly(costs, tuple(unknown))


def dearest_of(spec: Spec, pool: Pool) -> Price | None:
    """What one node of the pool's dearest alternative costs; None if one is unknown."""
    prices = [price_of(spec, pool, each) for each in pool.accelerators or (None,)]
    known = [price for price in prices if price is not None]
    return max(known, key=lambda price: price.per_hour) if len(known) == len(prices) else None


def price_of(spec: Spec, pool: Pool, accelerator: Accelerator | None = None) -> Price | None:
    """What one node of a pool costs: of alternatives, the one that is named, else the first.

    None where nobody says it.
    """
    listed = _listed(spec, pool, accelerator or (pool.accelerators or (None,))[0])
    if pool.price is None:
        return listed
    value, said = pool.price.value, "price: of the pool"
    if listed is None or pool.price.currency != listed.currency:
        on_demand, spot = (None, value) if pool.spot else (value, None)
    elif pool.spot:
        on_demand, spot = listed.on_demand, value
        said += f"; on demand: {listed.source}"
    else:
        on_demand, spot = value, listed.spot
    return Price(on_demand, spot, pool.spot, pool.price.currency, said)


def head_price(spec: Spec) -> Price | None:
    """What the head's machine costs on a cloud; None elsewhere."""
    cloud = spec.cluster.provider.type
    if cloud not in CLOUDS:
        return None
    head = spec.cluster.head
    machine = machine_of(cloud, head.cpus or 2, head.memory or 8 * GIB)
    return _row(spec, cloud, machine.name, None, False)


def cloud_of(spec: Spec) -> str | None:
    """The cloud that the spec's machines are of, where the spec tells."""
    provider: Any = spec.cluster.provider
    if provider.type == "kubernetes":
        return PLATFORMS.get(provider.platform)
    return provider.type if provider.type in CLOUDS else None


@cache
def table() -> dict[str, Any]:
    """The whole table."""
    return read_document(Path(__file__).with_name("prices.yaml"))


def _listed(spec: Spec, pool: Pool, accelerator: Accelerator | None) -> Price | None:
    cloud = cloud_of(spec)
    if cloud is None:
        return None
    try:
        name = pool.instance or _machine(cloud, pool, accelerator)
    except ValueError:  # no machine just so: on Kubernetes its nodes may be of any size
        return None
    return _row(spec, cloud, name, accelerator, pool.spot)


def _machine(cloud: str, pool: Pool, accelerator: Accelerator | None) -> str:
    if accelerator is not None:
        return machine_with(cloud, accelerator).name
    return machine_of(cloud, pool.cpus or 1, pool.memory or 0).name


def _row(
    spec: Spec, cloud: str, name: str, accelerator: Accelerator | None, is_spot: bool
) -> Price | None:
    rows = table()[cloud]
    found = rows["machines"].get(name)
    if found is None:
        return None
    on_demand, spot = found
    kind = kinds().get(accelerator.name) if accelerator else None
    if cloud == "gcp" and accelerator and kind and kind.attached:
        each, each_spot = rows["attached"][accelerator.name]
        on_demand += accelerator.count * each
        spot = None if None in (spot, each_spot) else spot + accelerator.count * each_spot
    region = getattr(spec.cluster.provider, "region", None)
    elsewhere = f", not of {region}" if region not in (None, rows["region"]) else ""
    source = f"{name}, list price of {rows['region']}{elsewhere}, {table()['date']}"
    if is_spot and spot is None:
        source += "; no spot price in the table, so that on demand is counted"
    return Price(on_demand, spot, is_spot, "USD", source)
