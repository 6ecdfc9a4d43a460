"""Fractions of a GPU: replicas share one. The GPU is Ray's word for it, on a second node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cluster import client
from cluster.follow import follow
from serve import verbs
from tests.clusters import another_node
from tests.services import LABELS, serving

LEFT = """
import ray
ray.init(logging_level="ERROR")
print("left", ray.available_resources().get("GPU", 0), "of", ray.cluster_resources()["GPU"])
"""


def test_two_replicas_share_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "left.py").write_text(LEFT)
    with (
        serving(tmp_path / "served", {"labels": LABELS | {"serve": {}}}) as served,
        another_node(served.spec, served.connection, cpus=2, gpus=1),
    ):
        halves = ("models.labels.serve.replicas=2", "models.labels.serve.accelerators=0.5")
        verbs.serve(replace(served.request, overrides=halves), ["labels"])
        assert served.ask("/models/labels", {"inputs": "open a socket"}).status == 200
        name = client.submit(served.connection, "left-0000", 1, ["left.py"], tmp_path)
        assert "left 0 of 1.0\n" in "".join(follow(served.connection, name))
