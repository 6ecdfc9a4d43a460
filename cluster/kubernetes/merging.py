"""The spec's ``pod:`` section laid over a rendered pod, as Kubernetes merges patches."""

from __future__ import annotations

from typing import Any

# Lists whose items are told apart by a key; of other lists the section's replaces the rendered one.
KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
# Lists that are added to.
ADDED = ("tolerations",)


def merge(below: Any, above: Any, key: str = "") -> Any:
    """``above`` over ``below``: maps merge, null takes away, keyed lists merge by their key."""
    if isinstance(below, dict) and isinstance(above, dict):
        merged = dict(below)
        for name, value in above.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = merge(below[name], value, name) if name in below else value
        return merged
    if isinstance(below, list) and isinstance(above, list):
        if key in ADDED:
            return below + [item for item in above if item not in below]
        if key in KEYS and all(isinstance(item, dict) for item in (*below, *above)):
            return _merge_keyed(below, above, KEYS[key])
    return above


def _merge_keyed(below: list[Any], above: list[Any], by: str) -> list[Any]:
    merged = list(below)
    for item in above:
        at = next((at for at, old in enumerate(merged) if old.get(by) == item.get(by)), None)
        if at is None:
            merged.append(item)
        else:
            merged[at] = merge(merged[at], item)
    return merged
