"""The same against a real Kubernetes, where one is named: it makes a head there, and ends it.

KUBECONFIG=... SLIPWAY_IMAGE=registry/slipway:TAG [SLIPWAY_NAMESPACE=slipway] \\
    pytest tests/manifests/test_real_cluster.py          (k8s/README.md says how with kind)
"""

from __future__ import annotations

import json
import os

import pytest

from cluster import verbs
from cluster.attach import connect
from cluster.client import jobs
from cluster.request import Request

IMAGE = os.environ.get("SLIPWAY_IMAGE")
pytestmark = pytest.mark.skipif(
    not (IMAGE and os.environ.get("KUBECONFIG")), reason="needs KUBECONFIG and SLIPWAY_IMAGE"
)


@pytest.fixture
def request_(tmp_path):
    provider = {"type": "kubernetes", "image": IMAGE}
    provider["namespace"] = os.environ.get("SLIPWAY_NAMESPACE", "slipway")
    model = {"domain": "text", "task": "generation", "data": "builtin:python-docs"}
    cluster = {"provider": provider, "storage": "s3://bucket/test", "head": {"cpus": 1}}
    document = {"name": "slipway-test", "cluster": cluster, "models": {"m": model}}
    (tmp_path / "cluster.yaml").write_text(json.dumps(document))
    request = Request(tmp_path / "cluster.yaml", json=True, yes=True)
    yield request
    verbs.down(request)


def test_up_twice_reach_and_down(request_, capsys):
    verbs.up(request_)
    capsys.readouterr()
    verbs.up(request_)
    assert json.loads(capsys.readouterr().out)["changed"] == []
    assert jobs(connect(request_.spec())) == []  # through port-forward, with the token
    verbs.down(request_)
    assert "RayCluster/slipway-test" in json.loads(capsys.readouterr().out)["ended"]
