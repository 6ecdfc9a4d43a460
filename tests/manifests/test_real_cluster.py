"""The whole line against a real Kubernetes, where one is named: up, run, services, down.

KUBECONFIG=... SLIPWAY_IMAGE=registry/slipway:TAG SLIPWAY_STORAGE=s3://bucket/test \\
[SLIPWAY_ENDPOINT=http://...] [SLIPWAY_NAMESPACE=slipway] \\
    pytest tests/manifests/test_real_cluster.py          (k8s/README.md says how with kind)

The Secret s3 with the storage's keys is there, and beside it as files: k8s/README.md, Secrets. It
takes 20 GiB of the namespace's quota.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.attach import connect
from cluster.client import jobs
from cluster.kubernetes import names
from cluster.kubernetes.client import connect as connect_kube
from cluster.request import Request

IMAGE, STORAGE = os.environ.get("SLIPWAY_IMAGE"), os.environ.get("SLIPWAY_STORAGE")
pytestmark = pytest.mark.skipif(
    not (IMAGE and STORAGE and os.environ.get("KUBECONFIG")),
    reason="needs KUBECONFIG, SLIPWAY_IMAGE and SLIPWAY_STORAGE",
)
MINUTES_S = 900.0
ENDED = ("RayCluster", "RayService", "RayJob", "ConfigMap", "NetworkPolicy", "Pod")
COMMAND = str(Path(sys.executable).parent / "slipway")


@pytest.fixture
def file(tmp_path):
    provider = {"type": "kubernetes", "image": IMAGE}
    provider["namespace"] = os.environ.get("SLIPWAY_NAMESPACE", "slipway")
    storage = {"url": f"{STORAGE}/{time.time():.0f}", "credentials": {"secret": "s3"}}
    if "SLIPWAY_ENDPOINT" in os.environ:
        storage["endpoint"] = os.environ["SLIPWAY_ENDPOINT"]
    pools = [{"name": "cpu", "nodes": "0..2", "cpus": 1, "memory": "3Gi"}]
    head = {"cpus": 1, "memory": "3Gi"}
    network = {"type": "gpt", "layers": 1, "width": 32, "heads": 2, "context": 32}
    model = {
        "domain": "text",
        "task": "generation",
        "data": "builtin:python-docs",
        "network": network,
        "train": {"steps": 10, "global_batch": 8, "workers": 2, "pool": "cpu"},
        "promote": {"to": "production"},
        "serve": {"replicas": 1, "pool": "cpu"},
    }
    cluster = {"provider": provider, "storage": storage, "head": head, "pools": pools}
    document = {"name": "slipway", "cluster": cluster, "models": {"m": model}}
    path = tmp_path / "cluster.yaml"
    path.write_text(json.dumps(document))
    yield path
    slipway(path, "down")
    spec = Request(path).spec()
    kube = connect_kube(spec.cluster.provider)
    deadline, left = time.monotonic() + MINUTES_S, ["all"]
    while left:
        assert time.monotonic() < deadline, left
        time.sleep(1.0)
        own = f"{names.CLUSTER}=slipway"
        left = [each["metadata"]["name"] for kind in ENDED for each in kube.find(kind, own)]


def slipway(path, *words):
    """What the command prints as JSON; as a process of its own, as people run it."""
    command = [COMMAND, words[0], "-f", str(path), "--json", "-y", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MINUTES_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


def test_from_nothing_to_an_answer_and_back(file):
    assert "RayCluster/slipway" in slipway(file, "up")["changed"]
    assert slipway(file, "up")["changed"] == []
    slipway(file, "run", "m")  # its workers come with it: 0 -> 2
    spec = Request(file).spec()
    assert [job.status for job in jobs(connect(spec))] == ["SUCCEEDED"]
    shown = slipway(file, "status")
    assert {each["name"]: each["status"] for each in shown["services"]} == {
        "front": "RUNNING",
        "m": "RUNNING",
    }
    answer = slipway(file, "predict", "m", "The for statement")
    assert (answer["model"], answer["version"]) == ("m", 1)
    again = {each["name"]: each for each in slipway(file, "status")["services"]}
    assert again["m"]["versions"]["m@1"]["requests"] == 1  # the service answered, not this process
