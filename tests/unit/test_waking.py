"""A first request that waits for a node is known before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.spec import load
from cluster.waking import slow_starts

GPU = {"name": "gpu", "nodes": "0..2", "accelerators": "H100:8"}
CPU = {"name": "cpu", "nodes": 1, "cpus": 8}


@pytest.mark.parametrize(
    ("serve", "pools", "waits"),
    [
        ({"replicas": "0..2"}, [GPU], True),
        ({"replicas": "0..2", "pool": "gpu"}, [GPU, CPU], True),
        ({"replicas": "0..2"}, [GPU, CPU], False),
        ({"replicas": "0..2", "accelerators": 1}, [GPU, CPU], True),
        ({"replicas": "1..2"}, [GPU], False),
        (None, [GPU], False),
    ],
)
def test_replicas_and_nodes_that_both_start_from_nothing(
    serve: Any, pools: list[Any], waits: bool, tmp_path: Path
) -> None:
    model: dict[str, Any] = {"domain": "text", "task": "classification", "data": "s3://b/t.csv"}
    model |= {"serve": serve} if serve else {}
    cluster = {"provider": {"type": "aws"}, "storage": "s3://b/p", "pools": pools}
    document = {"name": "acme", "cluster": cluster, "models": {"tickets": model}}
    path = tmp_path / "cluster.yaml"
    path.write_text(json.dumps(document))
    found = slow_starts(load(path))
    assert set(found) == ({"tickets"} if waits else set())
    if waits:
        assert "waits for a node" in found["tickets"]
        assert "gpu" in found["tickets"]
