"""KubeRay's rules that its schemas do not hold, from validation.go of v1.7.0 (commit 59d663a)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

DNS1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
QUALIFIED = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LONGEST = {"RayCluster": 53, "RayJob": 47, "RayService": 47}


def broken_rules(document: dict[str, Any]) -> list[str]:
    """The rules that a RayCluster, RayJob or RayService breaks."""
    return [*_metadata(document), *_of_kind(document)]


def _metadata(document: dict[str, Any]) -> Iterator[str]:
    name = document["metadata"]["name"]
    if not re.fullmatch(DNS1035, name) or len(name) > LONGEST.get(document["kind"], 63):
        yield f"name {name}"
    yield from _labels(document["metadata"]["labels"])


def _labels(labels: dict[str, str]) -> Iterator[str]:
    for key, value in labels.items():
        if not re.fullmatch(QUALIFIED, key) or not re.fullmatch(LABEL_VALUE, value):
            yield f"label {key}: {value}"


def _of_kind(document: dict[str, Any]) -> Iterator[str]:
    spec = document["spec"]
    if document["kind"] == "RayCluster":
        yield from _cluster(spec)
    if document["kind"] == "RayJob":
        yield from _cluster(spec["rayClusterSpec"])
        if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
            yield "a time to live without shutdownAfterJobFinishes"
        if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
            yield "suspended without shutdownAfterJobFinishes"
        for key in ("preRunningDeadlineSeconds", "activeDeadlineSeconds"):
            if spec.get(key, 1) <= 0:
                yield key
        if spec.get("backoffLimit", 0) < 0:
            yield "backoffLimit"
    if document["kind"] == "RayService":
        yield from _cluster(spec["rayClusterConfig"])
        yield from _upgrade(spec)


def _upgrade(spec: dict[str, Any]) -> Iterator[str]:
    strategy = spec["upgradeStrategy"]
    if strategy["type"] != "NewClusterWithIncrementalUpgrade":
        return
    options = strategy["clusterUpgradeOptions"]
    if not spec["rayClusterConfig"]["enableInTreeAutoscaling"]:
        yield "an incremental upgrade without the autoscaler"
    if not 0 <= options["stepSizePercent"] <= options["maxSurgePercent"] <= 100:
        yield "stepSizePercent"
    if options["intervalSeconds"] <= 0 or not options["gatewayClassName"]:
        yield "clusterUpgradeOptions"


def _cluster(spec: dict[str, Any]) -> Iterator[str]:
    head, groups = spec["headGroupSpec"], spec["workerGroupSpecs"]
    elastic = spec.get("enableInTreeAutoscaling", False)
    version = tuple(map(int, spec["rayVersion"].split(".")))
    if spec["authOptions"]["mode"] == "token" and version < (2, 52, 0):
        yield "tokens want Ray 2.52"
    if len({group["groupName"] for group in groups}) < len(groups):
        yield "two groups of one name"
    for group in (head, *groups):
        yield from _group(group, elastic)
    for group in groups:
        if group.get("priority") and (not elastic or version < (2, 56, 0)):
            yield "priority wants autoscaler v2 and Ray 2.56"
        if not 0 <= group["minReplicas"] <= group["maxReplicas"]:
            yield "replicas"
        if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            yield "replicas outside their bounds"
    names = {each["name"] for each in head["template"]["spec"]["containers"][0]["env"]}
    for name in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"):
        if name in names:
            yield f"{name} is KubeRay's"
    if "tlsOptions" in spec or "networkPolicy" in spec or "historyServerOptions" in spec:
        yield "behind an alpha gate"
    if spec.get("gcsFaultToleranceOptions", {}).get("backend") == "rocksdb":
        yield "behind an alpha gate"


def _group(group: dict[str, Any], elastic: bool) -> Iterator[str]:
    pod = group["template"]["spec"]
    if elastic and pod.get("restartPolicy", "Never") != "Never":
        yield "restartPolicy under autoscaler v2"
    if "labels" in group["rayStartParams"]:
        yield "labels in rayStartParams"
    if group.get("resources") and "num-cpus" in group["rayStartParams"]:
        yield "resources twice"
    yield from _labels(group.get("labels", {}))
    yield from _labels(group["template"]["metadata"]["labels"])
    # autoscaling_config.py of Ray refuses a group whose CPUs it cannot tell
    if not int(group["rayStartParams"]["num-cpus"]) >= 0:
        yield "num-cpus"
    mounted = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    if len(set(mounted)) < len(mounted):
        yield "two mounts at one place"
    volumes = {volume["name"] for volume in pod["volumes"]}
    if not {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= volumes:
        yield "a mount without a volume"
