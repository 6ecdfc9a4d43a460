"""``down`` through the official client, and what follows or precedes it."""

from __future__ import annotations

import json
import threading

import pytest

from cluster.connection import ClusterError
from cluster.kubernetes import applying
from cluster.kubernetes.applying import down, up
from cluster.kubernetes.client import connect
from tests.manifests.test_applying import api, kinds, spec

__all__ = ["api", "spec"]  # fixtures


def test_down_removes_what_up_made_and_nothing_else(api, spec):
    before = set(api.objects)
    kube = connect(spec.cluster.provider)
    up(spec, kube, print)
    ended = down(spec, kube, print)
    assert "RayCluster/acme" in ended
    assert set(api.objects) == before
    assert down(spec, kube, print) == []


def test_down_ends_the_volume_of_the_heads_state(api, spec):
    """A StatefulSet labels it with its own selector, and leaves it."""
    kube = connect(spec.cluster.provider)
    up(spec, kube, print)
    labels = api.objects["statefulsets", "acme-redis"]["spec"]["selector"]["matchLabels"]
    for name, own in (("data-acme-redis-0", labels), ("data-other", {"slipway/redis": "other"})):
        claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": name, "labels": own}}
        api.put(claim, "persistentvolumeclaims")
    assert "PersistentVolumeClaim/data-acme-redis-0" in down(spec, kube, print)
    assert ("persistentvolumeclaims", "data-other") in api.objects


def test_redis_outlives_the_clusters_whose_state_it_holds(api, spec, capsys, monkeypatch):
    """The operator's job clears it before a RayCluster goes, and needs the service account, too."""
    monkeypatch.setattr(applying, "LOOK_EVERY_S", 0.05)
    kube = connect(spec.cluster.provider)
    up(spec, kube, print)
    dying = api.objects["rayclusters", "acme"] | {}
    dying["metadata"] = dying["metadata"] | {"name": "acme-x", "ownerReferences": [{"name": "s"}]}
    api.put(dying, "rayclusters")
    gone = []

    def clear():
        gone.append(("statefulsets", "acme-redis") in api.objects)
        api.objects.pop(("rayclusters", "acme-x"))

    threading.Timer(0.3, clear).start()
    ended = down(spec, kube, print)
    assert gone == [True]
    assert "StatefulSet/acme-redis" in ended
    assert "clears the head's state" in capsys.readouterr().out
    deleted = [line for line in api.requests if line.startswith("delete")]
    assert all("propagationPolicy=Background" in line for line in deleted)


def test_up_waits_for_what_a_down_is_ending(api, spec, capsys, monkeypatch):
    """It is ready until it is gone, and what was made meanwhile would go with it."""
    monkeypatch.setattr(applying, "LOOK_EVERY_S", 0.05)
    kube = connect(spec.cluster.provider)
    up(spec, kube, print)
    metadata = api.objects["rayclusters", "acme"]["metadata"]
    metadata["deletionTimestamp"] = "2026-12-01T02:43:00Z"
    threading.Timer(0.3, api.objects.pop, [("rayclusters", "acme")]).start()
    assert "RayCluster/acme" in up(spec, kube, print).changed
    assert "RayCluster/acme of before has to end first" in capsys.readouterr().out
    assert "deletionTimestamp" not in api.objects["rayclusters", "acme"]["metadata"]
    api.objects["rayclusters", "acme"]["metadata"]["deletionTimestamp"] = "now"
    monkeypatch.setattr(applying, "ENDED_S", 0.1)
    with pytest.raises(ClusterError, match="still ending after 0 s: RayCluster/acme"):
        up(spec, kube, print)


def test_a_half_made_cluster_is_finished_by_up_and_removed_by_down(api, spec):
    kube = connect(spec.cluster.provider)
    api.refuse["patch statefulsets"] = (500, "boom")
    with pytest.raises(ClusterError, match="500"):
        up(spec, kube, print)
    assert "rayclusters" not in kinds(api)
    api.refuse.clear()
    assert "RayCluster/acme" in up(spec, kube, print).changed
    api.refuse["patch statefulsets"] = (500, "boom")
    down(spec, kube, print)
    assert kinds(api) == ["namespaces", "secrets"]


def test_the_command_asks_before_it_starts_and_before_it_ends(api, spec, tmp_path, capsys):
    from cluster import verbs
    from cluster.request import Request, WrongRequestError

    path = tmp_path / "cluster.yaml"
    with pytest.raises(WrongRequestError, match="start acme in namespace ml: a head"):
        verbs.up(Request(path, json=True))
    assert "rayclusters" not in kinds(api)
    verbs.up(Request(path, json=True, yes=True))
    capsys.readouterr()
    verbs.up(Request(path, json=True))  # it runs: nothing is started
    assert json.loads(capsys.readouterr().out)["changed"] == []
    labels = {"slipway/cluster": "acme"}
    api.put({"kind": "RayJob", "metadata": {"name": "r", "labels": labels}}, "rayjobs")
    with pytest.raises(WrongRequestError, match="under way: RayJob r"):
        verbs.down(Request(path))
    verbs.down(Request(path, yes=True))
    assert kinds(api) == ["namespaces", "secrets"]
