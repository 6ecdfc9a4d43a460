"""On which nodes a group's pods may run: accelerators, spot capacity, named machines.

Labels differ from platform to platform. With ``platform: any`` a pod may run on a node that any of
them would call right (Kubernetes takes the terms of an affinity as alternatives), so that one
document suits every cluster; a named platform gives its own labels only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.kubernetes.groups import Group
from cluster.machines import Kind, kinds
from cluster.spec.grammar import Accelerator

INSTANCE = "node.kubernetes.io/instance-type"
SPOT: dict[str, tuple[str, str]] = {
    "gke": ("cloud.google.com/gke-spot", "true"),
    "karpenter": ("karpenter.sh/capacity-type", "spot"),
    "eks": ("eks.amazonaws.com/capacityType", "SPOT"),
    "aks": ("kubernetes.azure.com/scalesetpriority", "spot"),
}
# EKS leaves spot nodes untainted.
SPOT_TAINTS = {name: SPOT[name] for name in ("gke", "aks")}
CLOUDS = {"eks": "aws", "aks": "azure"}
# p4d and p4de both hold an "a100".
KARPENTER_MEMORY = {"A100": "40960", "A100-80GB": "81920"}

Expressions = list[dict[str, Any]]


def placement(group: Group, platform: str) -> dict[str, Any]:
    """What of a pod's spec places it: affinity and tolerations; nothing where any node does."""
    found: dict[str, Any] = {}
    tolerations = list(_tolerations(group, platform))
    if tolerations:
        found["tolerations"] = tolerations
    terms = _terms(group, platform, group.accelerators)
    assert terms or not group.spot, "the spec's checks refuse it: it would run on demand"
    if terms:
        required = {"nodeSelectorTerms": [{"matchExpressions": each} for each in terms]}
        affinity = {"requiredDuringSchedulingIgnoredDuringExecution": required}
        preferred = list(_preferred(group, platform))
        if preferred:
            affinity["preferredDuringSchedulingIgnoredDuringExecution"] = preferred  # type: ignore[assignment]
        found["affinity"] = {"nodeAffinity": affinity}
    return found


def has_spot(platform: str, accelerator: Accelerator) -> bool:
    """Whether anything tells a platform's spot nodes with these accelerators from other nodes."""
    group = Group("", "", 1, 0, accelerators=(accelerator,), spot=True)
    return bool(_terms(group, platform, (accelerator,)))


def notes(group: Group, platform: str) -> Iterator[str]:
    """Where a named platform has the accelerators otherwise than they are asked for."""
    for each in group.accelerators if platform != "any" and not group.instance else ():
        if _device(platform, group, (each,)) is None:
            yield (
                f"we know no nodes of {platform} with {each}: pods of {group.pool} wait for nodes "
                f"with the label {_product_label(group)}; the pool's instance: names another"
            )
        elif platform in CLOUDS and not _machines(CLOUDS[platform], each, exactly=True):
            found = " or ".join(_machines(CLOUDS[platform], each))
            yield (
                f"no machine of {platform} has just {each}: pods of {group.pool} run on {found}, "
                "which has more and is paid for as a whole"
            )


def _terms(group: Group, platform: str, accelerators: tuple[Accelerator, ...]) -> list[Expressions]:
    """Alternatives: a node that satisfies all expressions of one of them is right."""
    if not (accelerators or group.spot or group.instance):
        return []
    platforms = ("plain", *SPOT) if platform == "any" else (platform, "plain")
    terms: list[Expressions] = []
    for name in platforms:
        if group.spot and name not in SPOT:
            continue  # only a cloud has spot capacity, and says which nodes are
        device = _device(name, group, accelerators)
        if device is None:
            continue
        spot = [_is(*SPOT[name])] if group.spot else []
        if device + spot and device + spot not in terms:
            terms.append(device + spot)
    return terms


def _device(
    platform: str, group: Group, accelerators: tuple[Accelerator, ...]
) -> Expressions | None:
    """What says that a node has the machine or the devices; None where the platform has none."""
    if group.instance:
        return [_is(INSTANCE, group.instance)]
    if not accelerators:
        return []
    known = [(each, kinds()[each.name]) for each in accelerators if each.name in kinds()]
    if platform == "karpenter":
        return _karpenter(known)
    values = {
        "plain": lambda: [product for _, kind in known for product in kind.products],
        "gke": lambda: [name for _, kind in known for name in kind.gke],
    }.get(platform, lambda: [m for each, _ in known for m in _machines(CLOUDS[platform], each)])()
    key = {"plain": _product_label(group), "gke": "cloud.google.com/gke-accelerator"}
    return [_is(key.get(platform, INSTANCE), *values)] if values else None


def _machines(cloud: str, accelerator: Accelerator, exactly: bool = False) -> list[str]:
    """The cloud's machines with just so many; where there are none, those with more."""
    there = kinds()[accelerator.name].machines.get(cloud, ())
    same = [each.name for each in there if each.accelerators == accelerator.count]
    more = [each.name for each in there if each.accelerators > accelerator.count]
    return same or ([] if exactly else more)


def _karpenter(known: list[tuple[Accelerator, Kind]]) -> Expressions | None:
    names = list(dict.fromkeys(kind.karpenter for _, kind in known if kind.karpenter))
    if not names:
        return None
    memory = {KARPENTER_MEMORY[each.name] for each, _ in known if each.name in KARPENTER_MEMORY}
    found = [_is("karpenter.k8s.aws/instance-gpu-name", *names)]
    if len(memory) == 1 and names == ["a100"]:
        found.append(_is("karpenter.k8s.aws/instance-gpu-memory", *memory))
    return found


def _product_label(group: Group) -> str:
    return (
        "amd.com/gpu.product-name" if group.resource.startswith("amd") else "nvidia.com/gpu.product"
    )


def _preferred(group: Group, platform: str) -> Iterator[dict[str, Any]]:
    """The order of alternatives: each weighs half of the one before it."""
    if len(group.accelerators) < 2 or group.instance:
        return
    for at, accelerator in enumerate(group.accelerators[:-1]):
        for term in _terms(group, platform, (accelerator,)):
            yield {"weight": max(1, 100 >> at), "preference": {"matchExpressions": term}}


def _tolerations(group: Group, platform: str) -> Iterator[dict[str, Any]]:
    if group.accelerators:
        yield {"key": group.resource, "operator": "Exists", "effect": "NoSchedule"}
    for name, (key, value) in SPOT_TAINTS.items():
        if group.spot and platform in ("any", name):
            yield {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}


def _is(key: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}
