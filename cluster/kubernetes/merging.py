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
_TIMES = (
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
    "terminationGracePeriodSeconds",
)
# Maps that say one thing in one of several ways: what may stand beside it.
ONE_OF: dict[str, tuple[str, ...]] = {
    "volumes": ("name",),
    "env": ("name",),
    "valueFrom": (),
    "preStop": (),
    "postStart": (),
    "livenessProbe": _TIMES,
    "readinessProbe": _TIMES,
    "startupProbe": _TIMES,
}


def merge(below: Any, above: Any, key: str = "") -> Any:
    """``above`` over ``below``: maps merge, null takes away, keyed lists merge by their key.

    ``key`` is that of the two, or of the list that they are items of.
    """
    if isinstance(below, dict) and isinstance(above, dict):
        merged = _kept(below, above, key)
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
            return _merge_keyed(below, above, key)
    return above


def _kept(below: dict[str, Any], above: dict[str, Any], key: str) -> dict[str, Any]:
    """What stays of ``below``: another way to say the same thing would be refused beside it."""
    beside = ONE_OF.get(key)
    if beside is None:
        return dict(below)
    ways = {name for name, value in above.items() if value is not None and name not in beside}
    return {k: v for k, v in below.items() if not ways or k in ways or k in beside}


def _merge_keyed(below: list[Any], above: list[Any], key: str) -> list[Any]:
    by = KEYS[key]
    merged = list(below)
    for item in above:
        at = next((at for at, old in enumerate(merged) if old.get(by) == item.get(by)), None)
        if at is None:
            merged.append(item)
        else:
            merged[at] = merge(merged[at], item, key)
    return merged
