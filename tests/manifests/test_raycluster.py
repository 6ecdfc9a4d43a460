"""What ``up`` applies on Kubernetes: right by the schemas, and by what they do not say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.documents import read_documents
from cluster.kubernetes.documents import documents, warnings
from cluster.kubernetes.raycluster import FILES, raycluster

POOLS = """
pools:
  - {name: gpu, nodes: 0..4, accelerators: [H100:8, H200:8], spot: true}
  - {name: cpu, nodes: 1..10, cpus: 16, memory: 64Gi}
"""


def workers(document):
    return {group["groupName"]: group for group in document["spec"]["workerGroupSpecs"]}


def pod_of(group):
    return group["template"]["spec"]


@pytest.mark.parametrize("path", sorted(FILES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_files_that_rendering_starts_from_are_valid(path, faults):
    assert faults(read_documents(path)) == []


def test_pools_become_groups(spec_of, faults):
    spec = spec_of(POOLS)
    assert faults(documents(spec)) == []
    found = workers(raycluster(spec))
    assert list(found) == ["gpu", "cpu"]
    gpu, cpu = found["gpu"], found["cpu"]
    assert (gpu["minReplicas"], gpu["maxReplicas"], gpu["replicas"]) == (0, 4, 0)
    assert (cpu["minReplicas"], cpu["maxReplicas"]) == (1, 10)
    assert gpu["labels"] == {"slipway/pool": "gpu"}
    asked = pod_of(cpu)["containers"][0]["resources"]
    assert asked == {"requests": {"cpu": "16", "memory": "64Gi"}, "limits": {"memory": "64Gi"}}
    assert cpu["rayStartParams"] == {"num-cpus": "16"}
    assert pod_of(gpu)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    (shared,) = [v for v in pod_of(cpu)["volumes"] if v["name"] == "shared-memory"]
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "32Gi"}


def test_spot_capacity_of_any_platform_is_asked_for(spec_of):
    pod = pod_of(workers(raycluster(spec_of(POOLS)))["gpu"])
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    terms = [
        {each["key"]: each["values"] for each in term["matchExpressions"]}
        for term in required["nodeSelectorTerms"]
    ]
    assert {
        "cloud.google.com/gke-accelerator": [
            "nvidia-h100-80gb",
            "nvidia-h100-mega-80gb",
            "nvidia-h200-141gb",
        ],
        "cloud.google.com/gke-spot": ["true"],
    } in terms
    eks = [term for term in terms if "eks.amazonaws.com/capacityType" in term]
    assert eks[0]["node.kubernetes.io/instance-type"] == [
        "p5.48xlarge",
        "p5en.48xlarge",
        "p5e.48xlarge",
    ]
    # a spot pool never lands on a node that does not say it is spot
    assert all(len(term) >= 2 for term in terms)
    keys = {toleration["key"] for toleration in pod["tolerations"]}
    assert {"nvidia.com/gpu", "cloud.google.com/gke-spot"} <= keys


def test_a_named_platform_gives_its_own_labels_only(spec_of):
    pod = pod_of(workers(raycluster(spec_of(POOLS, provider="platform: gke")))["gpu"])
    assert "karpenter" not in str(pod)
    assert "eks" not in str(pod)


def required_of(pod):
    affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [
        {each["key"]: each["values"] for each in term["matchExpressions"]}
        for term in affinity["nodeSelectorTerms"]
    ]


def test_a_number_that_no_machine_has_runs_on_one_with_more(spec_of):
    pools = "pools: [{name: gpu, nodes: 0..4, accelerators: T4:3, spot: true}]"
    spec = spec_of(pools, provider="platform: eks")
    assert required_of(pod_of(workers(raycluster(spec))["gpu"])) == [
        {
            "node.kubernetes.io/instance-type": ["g4dn.12xlarge"],
            "eks.amazonaws.com/capacityType": ["SPOT"],
        }
    ]
    assert "pods of gpu run on g4dn.12xlarge, which has more" in warnings(spec)[0]


def test_nodes_that_a_platform_does_not_tell_are_warned_of(spec_of):
    pools = "pools: [{name: gpu, nodes: 0..4, accelerators: A10G:4}]"
    spec = spec_of(pools, provider="platform: gke")
    terms = required_of(pod_of(workers(raycluster(spec))["gpu"]))
    assert terms == [{"nvidia.com/gpu.product": ["NVIDIA-A10G"]}]
    assert "we know no nodes of gke with A10G:4" in warnings(spec)[0]
    assert not warnings(spec_of(pools, provider="platform: eks"))


def test_alternatives_are_preferred_in_order(spec_of):
    pod = pod_of(workers(raycluster(spec_of(POOLS, provider="platform: gke")))["gpu"])
    (preferred,) = pod["affinity"]["nodeAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert "nvidia-h100-80gb" in str(preferred)
    assert "h200" not in str(preferred)


def test_alternatives_of_other_counts_are_groups_with_priorities(spec_of, faults):
    spec = spec_of("pools: [{name: gpu, nodes: 1..2, accelerators: [H100:8, L4:4]}]")
    assert faults(documents(spec)) == []
    found = workers(raycluster(spec))
    assert [(name, g["priority"], g["minReplicas"]) for name, g in found.items()] == [
        ("gpu-h100-8", 2, 1),
        ("gpu-l4-4", 1, 0),
    ]
    assert {g["labels"]["slipway/pool"] for g in found.values()} == {"gpu"}
    [said] = [line for line in warnings(spec) if "one by one" in line]
    assert said.startswith("of pool gpu each of gpu-h100-8, gpu-l4-4 may grow to 2 nodes")


def test_a_queue_gets_a_fixed_size_and_its_label(spec_of, faults):
    spec = spec_of(POOLS, provider="queue: team-a, priority: high")
    assert faults(documents(spec)) == []
    document = raycluster(spec)
    assert document["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "suspend" not in document["spec"]  # Kueue's own to set
    assert document["spec"]["enableInTreeAutoscaling"] is False
    assert "autoscalerOptions" not in document["spec"]
    assert pod_of(document["spec"]["headGroupSpec"])["automountServiceAccountToken"] is False
    for group in document["spec"]["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
        assert pod_of(group)["priorityClassName"] == "high"


def test_teams_are_kept_apart_by_namespace(spec_of):
    found = documents(spec_of(provider="namespace: team-b"))
    assert {each["metadata"]["namespace"] for each in found} == {"team-b"}


def test_secrets_are_references_only(spec_of, faults):
    spec = spec_of(
        "env: {HF_TOKEN: {secret: hf}, KEY: {secret: hf/other}, REGION: eu}",
        more="notify: {webhook: {secret: chat-url}}",
    )
    assert faults(documents(spec)) == []
    pod = raycluster(spec)["spec"]["headGroupSpec"]["template"]["spec"]
    variables = {each["name"]: each for each in pod["containers"][0]["env"]}
    assert variables["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hf", "key": "value"}}
    assert variables["KEY"]["valueFrom"] == {"secretKeyRef": {"name": "hf", "key": "other"}}
    assert variables["REGION"]["value"] == "eu"
    (volume,) = [v for v in pod["volumes"] if v["name"] == "secrets"]
    assert volume["projected"]["sources"] == [
        {"secret": {"name": "chat-url", "items": [{"key": "value", "path": "chat-url"}]}}
    ]


def test_ray_asks_for_a_token(spec_of):
    assert raycluster(spec_of())["spec"]["authOptions"] == {
        "mode": "token",
        "secretName": "acme-ray-token",
    }
    named = raycluster(spec_of(provider="token: {secret: ours}"))
    assert named["spec"]["authOptions"]["secretName"] == "ours"


def test_head_state_outlives_the_head_by_redis(spec_of, faults):
    spec = spec_of("high_availability: redis")
    found = documents(spec)
    assert faults(found) == []
    assert [each["kind"] for each in found] == [
        "NetworkPolicy",
        "ConfigMap",
        "Service",
        "StatefulSet",
        "NetworkPolicy",
        "RayCluster",
    ]
    options = found[-1]["spec"]["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "acme-redis:6379"
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "acme-redis"


def test_nothing_runs_on_the_head_unless_it_is_all_there_is(spec_of):
    alone = raycluster(spec_of("head: {cpus: 4, memory: 4Gi}"))["spec"]
    assert alone["headGroupSpec"]["rayStartParams"]["num-cpus"] == "4"
    assert alone["workerGroupSpecs"] == []
    beside = raycluster(spec_of("head: {cpus: 4}" + POOLS))["spec"]
    assert beside["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_pods_are_locked_down_and_may_finish_a_checkpoint(spec_of):
    document = raycluster(spec_of(POOLS))["spec"]
    for group in (document["headGroupSpec"], *document["workerGroupSpecs"]):
        pod = pod_of(group)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["restartPolicy"] == "Never"
        assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"livenessProbe", "readinessProbe"} <= set(pod["containers"][0])
    # whatever a ServiceAccount says: the autoscaler beside the head reads its token
    assert pod_of(document["headGroupSpec"])["automountServiceAccountToken"] is True
    for group in document["workerGroupSpecs"]:
        pod = pod_of(group)
        assert pod["terminationGracePeriodSeconds"] >= 180
        (command,) = [
            c for c in pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2:]
        ]
        assert "DRAIN_NODE_REASON_PREEMPTION" in command
        assert pod["automountServiceAccountToken"] is False


def test_what_is_printed_reads_back_as_it_was(spec_of, tmp_path):
    from cluster.documents import write_documents

    words = ["no", "1e3", "12:30", "0o17", "~", "", "a: b", "# c", "y", "2026-11-22", "=", "x\ny\n"]
    text = write_documents([{"words": words}])
    Path(tmp_path / "x.yaml").write_text(text)
    assert yaml.safe_load(text) == {"words": words}
    assert read_documents(tmp_path / "x.yaml") == [{"words": words}]


def test_render_and_plan_print_the_notes_of_up(spec_of, tmp_path, capsys):
    from cluster import verbs
    from cluster.request import Request
    from jobs.verbs.plan import plan

    spec_of("pools: [{name: gpu, accelerators: A10G:4}]", provider="platform: gke")
    verbs.render(Request(tmp_path / "cluster.yaml"), spec=False)
    printed = capsys.readouterr()
    assert "note: we know no nodes of gke with A10G:4" in printed.err
    assert "note:" not in printed.out
    plan(Request(tmp_path / "cluster.yaml"))
    assert "note: we know no nodes of gke with A10G:4" in capsys.readouterr().out
