"""A kubeconfig that cannot be used, and an API that does not answer."""

from __future__ import annotations

import socket

import pytest
import yaml

from cluster.connection import ClusterError
from cluster.kubernetes import bounded
from cluster.kubernetes.client import connect
from tests.manifests.test_applying import api, kubeconfig, spec

__all__ = ["api", "spec"]  # fixtures
PLACE = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Where the kubeconfig is looked for."""
    path = tmp_path / "kubeconfig"
    monkeypatch.setattr(PLACE, str(path))
    return path


def logging_in(command):
    """A kubeconfig whose user's token comes from a program."""
    written = kubeconfig("http://127.0.0.1:9")
    login = {"apiVersion": "client.authentication.k8s.io/v1", "command": command}
    return written | {"users": [{"name": "u", "user": {"exec": login}}]}


def test_kubeconfigs_that_cannot_be_used(api, spec, tmp_path, monkeypatch):
    provider = spec.cluster.provider
    with pytest.raises(ClusterError, match='no context "prood"; did you mean "prod"'):
        connect(provider.model_copy(update={"context": "prood"}))
    monkeypatch.setattr(PLACE, str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="no kubeconfig that can be used"):
        connect(provider)
    path = tmp_path / "dead"
    path.write_text(yaml.safe_dump(kubeconfig("http://127.0.0.1:9")))
    monkeypatch.setattr(PLACE, str(path))
    with pytest.raises(ClusterError, match=r"does not answer"):
        connect(provider)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a: [b", "is not YAML: while parsing a flow sequence .* line 1, column 4"),
        ("- a", "is not as one should be, a map with clusters, users and contexts"),
        (yaml.safe_dump(kubeconfig("http://x") | {"contexts": 3}), "is not as one should be"),
        (
            yaml.safe_dump(kubeconfig("not a url")),
            "says server: not a url of context .prod., which",
        ),
        (
            yaml.safe_dump(kubeconfig("https://x:port")),
            "says server: https://x:port of .* no address",
        ),
        (yaml.safe_dump(logging_in("aws-absent")), "cannot log in .* directory: 'aws-absent'"),
        (yaml.safe_dump(logging_in("false")), "cannot log in .*: exec: process returned 1"),
    ],
)
def test_a_broken_kubeconfig_is_named_with_what_is_wrong(spec, file, text, cause):
    file.write_text(text)
    with pytest.raises(ClusterError, match=f"the kubeconfig {file} {cause}"):
        connect(spec.cluster.provider)


def test_an_api_that_accepts_and_stays_silent_does_not_answer(spec, file, monkeypatch):
    monkeypatch.setattr(bounded, "READ_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file.write_text(yaml.safe_dump(kubeconfig(f"http://127.0.0.1:{silent.getsockname()[1]}")))
        with pytest.raises(ClusterError, match=r"does not answer .*Read timed out"):
            connect(spec.cluster.provider)
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # it was asked once
            silent.accept()


def test_an_api_that_is_busy_is_asked_again(api, spec):
    kube = connect(spec.cluster.provider)
    api.busy = 2
    assert kube.find("RayCluster", "a=b") == []
    assert api.busy == 0


def test_a_watch_may_be_silent_for_as_long_as_it_is_asked_for(api, spec, monkeypatch):
    kube = connect(spec.cluster.provider)
    asked = []
    call = kube._api.call_api

    def note(*request, _request_timeout):
        asked.append(_request_timeout)
        return call(*request, _request_timeout=_request_timeout)

    monkeypatch.setattr(kube._api, "call_api", note)
    list(kube.watch("RayCluster", "acme", 120.0))
    assert asked[-1] == (10.0, 150.0)
    kube.find("Pod")
    assert asked[-1] == (10.0, 30.0)
