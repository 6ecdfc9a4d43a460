"""``serve`` and ``stop MODEL`` against the stand-in; the test plays the operator."""

from __future__ import annotations

import base64
import threading
import time

import pytest
import yaml

from cluster.connection import ClusterError
from cluster.kubernetes import serving
from cluster.request import Request
from serve.rayservice import deploy_rayservice, stop_rayservice
from tests.manifests.fake_api import FakeApi
from tests.manifests.fake_api import serving as answering
from tests.manifests.test_applying import kubeconfig

MODELS = """
models:
  a: {domain: text, task: generation, data: builtin:python-docs, serve: {replicas: 1}}
  b: {domain: text, task: generation, data: builtin:python-docs, serve: {replicas: 1}}
"""


@pytest.fixture
def api(faults, tmp_path, monkeypatch):
    fake = FakeApi(faults)
    monkeypatch.setattr(serving, "LOOK_EVERY_S", 0.02)
    with answering(fake) as address:
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(kubeconfig(address)))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield fake


@pytest.fixture
def spec(spec_of):
    return spec_of("head: {cpus: 4}", rest=MODELS, provider="namespace: ml, context: prod")


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("owner sw-hush\n")
    return path


def operate(api, states):
    """What the operator writes once a RayService is there."""

    def write():
        deadline = time.monotonic() + 30
        while ("rayservices", "acme-serve") not in api.objects:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ready = {"type": "Ready", "status": "True"}
        applications = {name: {"status": state} for name, state in states.items()}
        applications["a"]["message"] = "no such version"
        api.objects["rayservices", "acme-serve"]["status"] = {
            "conditions": [ready],
            "activeServiceStatus": {"applicationStatuses": applications},
        }

    threading.Thread(target=write).start()


def applications(api):
    config = api.objects["rayservices", "acme-serve"]["spec"]["serveConfigV2"]
    return [each["name"] for each in yaml.safe_load(config)["applications"]]


def test_services_come_up_beside_each_other_and_end_one_by_one(api, spec, tokens, capsys):
    request = Request(yes=True)
    operate(api, {"front": "RUNNING", "a": "RUNNING"})
    way = deploy_rayservice(request, spec, ["a"], tokens)
    assert way == "kubectl -n ml port-forward service/acme-serve-serve-svc 8000:8000"
    assert "a: up" in capsys.readouterr().out
    secret = api.objects["secrets", "acme-tokens"]["data"]["value"]
    assert base64.b64decode(secret).decode() == tokens.read_text()
    assert ("networkpolicies", "acme") in api.objects
    tokens.write_text("owner other\n")  # the cluster's own stay: clients have them
    deploy_rayservice(Request(detach=True), spec, ["b"], tokens)
    assert api.objects["secrets", "acme-tokens"]["data"]["value"] == secret
    assert applications(api) == ["front", "b", "a"]
    assert stop_rayservice(Request(), spec, "a", tokens)
    assert applications(api) == ["front", "b"]
    assert not stop_rayservice(Request(), spec, "a", tokens)
    assert stop_rayservice(Request(), spec, "b", tokens)
    assert ("rayservices", "acme-serve") not in api.objects


def test_what_does_not_come_up_says_why(api, spec, tokens):
    operate(api, {"front": "RUNNING", "a": "DEPLOY_FAILED"})
    with pytest.raises(ClusterError, match="a did not come up: no such version"):
        deploy_rayservice(Request(yes=True), spec, ["a"], tokens)


@pytest.mark.parametrize(
    ("status", "anew"),
    [
        ({"observedGeneration": 2}, False),  # it is still starting
        ({"observedGeneration": 1}, True),  # the operator never read the change
        ({"observedGeneration": 2, "failed": True}, True),
        ({"observedGeneration": 2, "failed": True, "ready": True}, False),  # it serves somebody
    ],
)
def test_one_that_serves_nobody_and_is_stuck_is_made_anew(api, spec, tokens, status, anew):
    deploy_rayservice(Request(yes=True, detach=True), spec, ["a"], tokens)
    there = api.objects["rayservices", "acme-serve"]
    there["metadata"]["generation"] = 2
    there["status"] = {"observedGeneration": status["observedGeneration"]}
    if "failed" in status:
        states = {"a": {"status": "DEPLOY_FAILED", "message": "no"}}
        there["status"]["pendingServiceStatus"] = {"applicationStatuses": states}
    if "ready" in status:
        there["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    deploy_rayservice(Request(detach=True), spec, ["a"], tokens)
    deleted = [line for line in api.requests if line.startswith("delete")]
    assert bool(deleted) is anew
    assert ("rayservices", "acme-serve") in api.objects


def test_the_error_of_a_deployment_is_the_cause():
    said = "The deployment failed to start 3 times\n  File x\nTokenFileError: others can read it"
    failed = {"status": "DEPLOY_FAILED", "message": said}
    front = {
        "status": "DEPLOY_FAILED",
        "message": "Failed to update the deployments ['Front'].",
        "serveDeploymentStatuses": {"Front": failed},
    }
    status = {"pendingServiceStatus": {"applicationStatuses": {"front": front}}}
    assert serving.application_states({"status": status}) == {
        "front": ("DEPLOY_FAILED", "others can read it")
    }


def test_tokens_are_in_no_document_but_their_secret(api, spec, tokens):
    deploy_rayservice(Request(yes=True, detach=True), spec, ["a"], tokens)
    others = [each for (kind, _), each in api.objects.items() if kind != "secrets"]
    assert "hush" not in str(others)
