"""What ``serve`` applies on Kubernetes."""

from __future__ import annotations

import yaml

from cluster.kubernetes.documents import service_documents, warnings
from cluster.kubernetes.rayservice import rayservice, tokens_file
from serve.applications import applications

MODELS = """
models:
  a: {domain: text, task: generation, data: builtin:python-docs, serve: {replicas: 0..4, pool: gpu}}
  b: {domain: text, task: generation, data: builtin:python-docs, serve: {pool: gpu}}
  c: {domain: text, task: generation, data: builtin:python-docs}
"""
POOLS = """
pools:
  - {name: gpu, nodes: 0..4, accelerators: L4:1}
  - {name: cpu, nodes: 1..10, cpus: 16}
"""


def ours(spec):
    return applications(spec, ["a", "b"], tokens_file(spec))


def test_an_application_for_every_served_model(spec_of, faults):
    spec = spec_of(POOLS, MODELS, "ingress_namespace: ingress-nginx")
    found = service_documents(spec, ours(spec))
    assert faults(found) == []
    assert [each["kind"] for each in found].count("NetworkPolicy") == 2
    service = found[-1]["spec"]
    config = yaml.safe_load(service["serveConfigV2"])
    routes = {each["name"]: each["route_prefix"] for each in config["applications"]}
    assert routes == {"front": "/", "a": "/models/a", "b": "/models/b"}
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8000}
    assert [g["groupName"] for g in service["rayClusterConfig"]["workerGroupSpecs"]] == ["gpu"]


def test_other_applications_change_no_pod(spec_of):
    spec = spec_of(POOLS, MODELS)
    before, after = (rayservice(spec, [{"name": n}])["spec"] for n in ("a", "b"))
    assert before["rayClusterConfig"] == after["rayClusterConfig"]
    assert before["serveConfigV2"] != after["serveConfigV2"]


def test_a_gateway_moves_traffic_step_by_step(spec_of, faults):
    spec = spec_of(POOLS, MODELS, "gateway_class: istio")
    document = rayservice(spec, ours(spec))
    assert faults([document]) == []
    strategy = document["spec"]["upgradeStrategy"]
    assert strategy["type"] == "NewClusterWithIncrementalUpgrade"
    assert strategy["clusterUpgradeOptions"]["gatewayClassName"] == "istio"
    assert not any("gateway_class" in line for line in warnings(spec))


def test_without_a_gateway_there_is_a_warning(spec_of):
    spec = spec_of(POOLS, MODELS)
    assert rayservice(spec, ours(spec))["spec"]["upgradeStrategy"] == {"type": "NewCluster"}
    assert any("gateway_class" in line for line in warnings(spec))


def test_tokens_of_clients_are_files_that_follow_their_secret(spec_of, faults):
    spec = spec_of(POOLS, MODELS, more="services: {tokens: {secret: api-tokens}, port: 9000}")
    document = rayservice(spec, ours(spec))
    assert faults([document]) == []
    pod = document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "secrets"]
    items = [{"key": "value", "path": "api-tokens"}]
    assert {"secret": {"name": "api-tokens", "items": items}} in volume["projected"]["sources"]
    assert tokens_file(spec) == "/etc/slipway/secrets/api-tokens"
    assert {"name": "serve", "containerPort": 9000} in pod["containers"][0]["ports"]
    assert "readinessProbe" not in pod["containers"][0]
