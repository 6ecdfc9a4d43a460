"""Which pods of a RayCluster do not follow a change of it. Pure.

KubeRay 1.7 compares none of its pods with their template (raycluster_controller.go, reconcilePods):
it makes new ones by the new one, and leaves those that are there, of groups that are gone too. Its
`upgradeStrategy: Recreate` would end all, and the runs on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cluster.documents import Document

GROUP = "ray.io/group"
HEAD = "headgroup"
SCALE = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy", "priority")
"""What of a group changes its number of pods, not the pods."""


def stale(before: Document | None, now: Document | None, pods: Iterable[Document]) -> list[str]:
    """The groups, as KubeRay labels pods, that keep pods of what the RayCluster said before."""
    made = _templates(before)
    wanted = _templates(now)
    groups = {pod["metadata"].get("labels", {}).get(GROUP) for pod in pods}
    return [name for name in made if name in groups and made[name] != wanted.get(name)]


def _templates(cluster: Document | None) -> dict[str, Any]:
    if cluster is None:
        return {}
    said = cluster["spec"]
    found: dict[str, Any] = {
        HEAD: (said["headGroupSpec"], said.get("gcsFaultToleranceOptions"), said.get("rayVersion"))
    }
    for group in said.get("workerGroupSpecs") or ():
        found[group["groupName"]] = {k: v for k, v in group.items() if k not in SCALE}
    return found
