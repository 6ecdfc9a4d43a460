"""Why something waits: a demand held against what the cluster has and may grow to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .spec import Pool, Spec

Amounts = Mapping[str, float]
# What the spec's clusters cannot grow in: their machines are there or not.
FIXED = ("local", "ray")
SHOWN = {"CPU": "CPU", "GPU": "GPU", "memory": "GiB of memory"}


def why_waiting(demand: Amounts, spec: Spec, total: Amounts, used: Amounts | None = None) -> str:
    """One sentence that says what a pending demand waits for.

    `demand`, `total` and `used` map Ray's resource names to amounts (memory in bytes): what is
    asked for altogether, what all nodes have, and what of it is occupied.
    """
    lacking = [name for name in sorted(demand, key=_order) if demand[name] > total.get(name, 0.0)]
    if lacking:
        return _too_small(lacking[0], demand, spec, total)
    used = used or {}
    full = [
        name
        for name in sorted(demand, key=_order)
        if demand[name] > total.get(name, 0.0) - used.get(name, 0.0)
    ]
    if full:
        name = full[0]
        return (
            f"waiting for {amount(name, demand[name])}: "
            f"{number(name, used[name])} of {number(name, total[name])} are in use; "
            "it starts when another run ends (slipway runs; slipway stop RUN)"
        )
    one = "one node of its pool" if len(spec.cluster.pools) > 1 else "one node"
    return f"waiting for {describe(demand)}: they are free, but not on {one}; it may start soon"


def limit(name: str, spec: Spec, total: Amounts) -> tuple[float, str]:
    """How much of a resource the cluster may grow to, and the key of the YAML that says so."""
    pools = spec.cluster.pools
    kind = spec.cluster.provider.type
    if kind in FIXED:
        key = "cluster.pools[0].nodes" if pools else f"cluster.provider: {kind}"
        return total.get(name, 0.0), key
    sizes = [pool.nodes.max * _of_node(pool, name) for pool in pools]
    if not sizes:
        return total.get(name, 0.0), "cluster.pools"
    largest = max(range(len(sizes)), key=sizes.__getitem__)
    return sum(sizes), f"cluster.pools[{largest}].nodes"


def describe(demand: Amounts) -> str:
    """ "2 CPUs and 1 GPU"."""
    return " and ".join(amount(name, demand[name]) for name in sorted(demand, key=_order)) or "-"


def amount(name: str, value: float) -> str:
    """ "8 GPUs"; custom resources are named as Ray names them."""
    shown = SHOWN.get(name, name)
    plural = "s" if name in ("CPU", "GPU") and value != 1 else ""
    return f"{number(name, value)} {shown}{plural}"


def number(name: str, value: float) -> str:
    """The value in the unit that is shown."""
    return f"{value / 2**30:.1f}" if name == "memory" else f"{value:g}"


def sum_amounts(bundles: Iterable[Amounts]) -> dict[str, float]:
    """The bundles' resources added up."""
    total: dict[str, float] = {}
    for bundle in bundles:
        for name, value in bundle.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _too_small(name: str, demand: Amounts, spec: Spec, total: Amounts) -> str:
    most, key = limit(name, spec, total)
    has = number(name, total.get(name, 0.0))
    start = f"waiting for {amount(name, demand[name])}: the cluster has {has}"
    if demand[name] > most:
        return f"{start} and may not grow past {number(name, most)} ({key})"
    return f"{start} and is growing, up to {number(name, most)} ({key})"


def _of_node(pool: Pool, name: str) -> float:
    if name == "CPU":
        return float(pool.cpus or 0)
    if name == "memory":
        return float(pool.memory or 0)
    if name == "GPU":
        return float(max((accelerator.count for accelerator in pool.accelerators), default=0))
    return 0.0


def _order(name: str) -> tuple[int, str]:
    """Scarce things first."""
    return (("GPU", "CPU", "memory").index(name) if name in SHOWN else -1, name)
