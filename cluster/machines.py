"""Which machines hold which accelerators: the dated table ``machines.yaml``, and choices from it.

Pure: nothing is asked of a cloud. ``date`` and ``sources`` of the table say where it is from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from cluster.documents import read_document
from cluster.spec.grammar import Accelerator

GIB = 2**30
CLOUDS = ("aws", "gcp", "azure")
NVIDIA = "nvidia.com/gpu"


@dataclass(frozen=True)
class Machine:
    """A type of machine: ``accelerators`` devices, ``cpus`` and ``memory_bytes``."""

    name: str
    accelerators: int
    cpus: int
    memory_bytes: int


@dataclass(frozen=True)
class Kind:
    """One accelerator: its Kubernetes resource and labels, and each cloud's machines with it."""

    resource: str
    products: tuple[str, ...]
    gke: tuple[str, ...]
    karpenter: str | None
    attached: str | None
    """GCP's name of it where it is attached to a machine, not part of its type."""
    machines: dict[str, tuple[Machine, ...]]


@cache
def table() -> dict[str, Any]:
    """The whole table."""
    return read_document(Path(__file__).with_name("machines.yaml"))


@cache
def kinds() -> dict[str, Kind]:
    """Our names of accelerators to what is known of them."""
    return {name: _kind(row) for name, row in table()["accelerators"].items()}


def kind_of(accelerator: Accelerator) -> Kind:
    """What is known of an accelerator. Raises ValueError that names those in the table."""
    known = kinds()
    if accelerator.name not in known:
        near = get_close_matches(accelerator.name.upper(), known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
        raise ValueError(f'unknown accelerator "{accelerator.name}"; {hint}')
    return known[accelerator.name]


def machine_with(cloud: str, accelerator: Accelerator) -> Machine:
    """The cloud's machine with just so many of an accelerator. Raises ValueError."""
    machines = kind_of(accelerator).machines.get(cloud, ())
    for machine in machines:
        if machine.accelerators == accelerator.count:
            return machine
    if not machines:
        having = [name for name, kind in kinds().items() if cloud in kind.machines]
        raise ValueError(f"{cloud} has no {accelerator.name}; it has {', '.join(having)}")
    counts = sorted({machine.accelerators for machine in machines})
    raise ValueError(
        f"{cloud} has no machine with {accelerator}, only with "
        + " or ".join(f"{accelerator.name}:{count}" for count in counts)
    )


def machine_of(cloud: str, cpus: int, memory_bytes: int) -> Machine:
    """The cloud's smallest machine without accelerators that has so much. Raises ValueError."""
    machines = _machines(table()["plain"][cloud])
    large = [m for m in machines if m.cpus >= cpus and m.memory_bytes >= memory_bytes]
    if not large:
        raise ValueError(
            f"no machine of {cloud} has {cpus} CPUs and {memory_bytes / GIB:.0f} GiB; "
            "ask for less, or name one by instance:"
        )
    return min(large, key=lambda machine: (machine.cpus, machine.memory_bytes))


def pod_size(accelerator: Accelerator) -> tuple[int, int]:
    """CPUs and bytes that a pod with the accelerators may ask for on every cloud's machine.

    A machine keeps some for the system: a CPU or a tenth, and a fifth of its memory.
    """
    rows = [
        machine
        for machines in kind_of(accelerator).machines.values()
        for machine in machines
        if machine.accelerators == accelerator.count
    ]
    if not rows:
        return 8 * accelerator.count, 32 * GIB * accelerator.count
    cpus = min(machine.cpus for machine in rows)
    memory = min(machine.memory_bytes for machine in rows)
    return max(1, min(cpus - 1, cpus * 9 // 10)), memory * 8 // 10 // GIB * GIB


def _kind(row: dict[str, Any]) -> Kind:
    return Kind(
        resource=row.get("resource", NVIDIA),
        products=tuple(row.get("product", ())),
        gke=tuple(row.get("gke", ())),
        karpenter=row.get("karpenter"),
        attached=row.get("attached"),
        machines={cloud: _machines(row[cloud]) for cloud in CLOUDS if cloud in row},
    )


def _machines(rows: Iterable[list[Any]]) -> tuple[Machine, ...]:
    return tuple(Machine(name, count, cpus, gib * GIB) for name, count, cpus, gib in rows)
