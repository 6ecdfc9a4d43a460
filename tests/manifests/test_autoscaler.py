"""Ray's own autoscaler for KubeRay, in this process, over what we render."""

from __future__ import annotations

import jsonpatch
import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.kuberay.node_provider import IKubernetesHttpApiClient
from ray.autoscaler.v2.instance_manager.cloud_providers.kuberay.cloud_provider import (
    KubeRayProvider,
)

from cluster.kubernetes.raycluster import raycluster

POOLS = """
idle_timeout: 5m
pools:
  - {name: gpu, nodes: 0..4, accelerators: [H100:8, H200:4]}
  - {name: cpu, nodes: 1..3, cpus: 16, memory: 64Gi}
"""


class Api(IKubernetesHttpApiClient):
    """A RayCluster and its pods; patches are applied as strictly as an API server does."""

    def __init__(self, cluster):
        self.cluster = cluster

    def get(self, path):
        if path.startswith("pods"):
            return {"metadata": {"resourceVersion": "1"}, "items": self.pods()}
        return self.cluster

    def patch(self, path, payload, content_type="application/json-patch+json"):
        self.cluster = jsonpatch.apply_patch(self.cluster, payload)
        return self.cluster

    def delete(self, path):
        raise AssertionError(path)

    def pods(self):
        return [
            {
                "metadata": {
                    "name": f"acme-{group['groupName']}-worker-{number}",
                    "labels": {"ray.io/node-type": "worker", "ray.io/group": group["groupName"]},
                },
                "status": {
                    "phase": "Running",
                    "podIP": "10.0.0.1",
                    "containerStatuses": [{"state": {"running": {}}}],
                },
            }
            for group in self.cluster["spec"]["workerGroupSpecs"]
            for number in range(group["replicas"])
        ]

    def group(self, name):
        groups = self.cluster["spec"]["workerGroupSpecs"]
        return next(group for group in groups if group["groupName"] == name)


@pytest.fixture
def cluster(spec_of):
    return raycluster(spec_of(POOLS))


def test_ray_reads_our_groups_as_we_mean_them(cluster):
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    types = config["available_node_types"]
    assert list(types) == ["headgroup", "gpu-h100-8", "gpu-h200-4", "cpu"]
    assert config["idle_timeout_minutes"] == 5
    gpu = types["gpu-h100-8"]
    assert (gpu["min_workers"], gpu["max_workers"], gpu["priority"]) == (0, 4, 2)
    assert gpu["resources"]["GPU"] == 8
    assert gpu["labels"] == {"slipway/pool": "gpu"}
    assert types["cpu"]["resources"] == {"CPU": 16, "memory": 64 * 2**30}
    assert types["headgroup"]["resources"]["CPU"] == 0


def test_ray_scales_our_cluster_up_and_down(cluster):
    api = Api(cluster)
    provider = KubeRayProvider("acme", {"namespace": "default"}, None, api)
    provider.get_non_terminated()
    provider.launch({"gpu-h100-8": 2}, "first")
    assert provider.poll_errors() == []
    assert api.group("gpu-h100-8")["replicas"] == 2
    found = [name for name in provider.get_non_terminated() if "gpu" in name]
    assert len(found) == 2
    provider.terminate(found, "second")
    assert provider.poll_errors() == []
    assert api.group("gpu-h100-8")["replicas"] == 0
    assert sorted(api.group("gpu-h100-8")["scaleStrategy"]["workersToDelete"]) == sorted(found)
    assert api.group("cpu")["replicas"] == 1
