"""The Roles of k8s/base are all that a member of the team needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import services, verbs
from cluster.attach import connect
from cluster.connection import ClusterError
from cluster.kubernetes import apart
from cluster.kubernetes.client import connect as connect_kube
from cluster.request import Request
from serve.rayservice import deploy_rayservice, stop_rayservice
from tests.manifests.test_attaching import api, spec
from tests.manifests.test_served import served_by

__all__ = ["api", "spec"]  # fixtures
RBAC = Path(__file__).resolve().parents[2] / "k8s" / "base" / "rbac.yaml"
HELD = ("slipway-user", "slipway-token")


def rules(cluster: str) -> list[dict[str, Any]]:
    """A member's rules, with the Secrets of this cluster named as the file says."""
    text = RBAC.read_text().replace("[slipway-ray-token, slipway-redis, slipway-tokens]", "NAMES")
    assert "NAMES" in text
    own = f"[{cluster}-ray-token, {cluster}-redis, {cluster}-tokens]"
    roles = yaml.safe_load_all(text.replace("NAMES", own))
    return [
        rule
        for role in roles
        if role["kind"] == "Role" and role["metadata"]["name"] in HELD
        for rule in role["rules"]
    ]


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("owner sw-hush\n")
    return path


def test_a_member_may_do_all_that_slipway_does(api, spec, tokens, tmp_path, monkeypatch):
    api.rules = rules("acme")
    request = Request(tmp_path / "cluster.yaml", yes=True, detach=True)
    kube = connect_kube(spec.cluster.provider)
    verbs.up(request)
    with served_by(api, spec, tmp_path, monkeypatch):
        connect(spec)
        assert services.ask(spec, "/status")
    deploy_rayservice(request, spec, ["tickets"], tokens)
    assert stop_rayservice(request, spec, "tickets", tokens)
    deploy_rayservice(request, spec, ["tickets"], tokens)
    assert apart.under_way(kube, "run") is None
    assert apart.why(kube, "run") == []
    assert apart.end(kube, "run") == []
    verbs.down(request)
    assert {kind for kind, _ in api.objects} <= {"namespaces", "pods"}


def test_without_the_right_to_its_secrets_down_says_which_stay(api, spec, tmp_path, capsys):
    request = Request(tmp_path / "cluster.yaml", yes=True)
    verbs.up(request)
    api.rules = rules("another")
    verbs.down(request)
    said = capsys.readouterr()
    assert "the Secret acme-ray-token stays: no right to get secrets" in said.out + said.err
    assert "slipway-token" in said.out + said.err
    assert ("networkpolicies", "acme") not in api.objects
    api.rules = None
    api.objects["secrets", "acme-ray-token"]["metadata"]["labels"] = {}
    verbs.down(request)  # somebody else's
    assert ("secrets", "acme-ray-token") in api.objects


def test_a_missing_right_is_named_with_its_role(api, spec):
    api.rules = [rule for rule in rules("acme") if "rayclusters" not in rule["resources"]]
    with pytest.raises(ClusterError, match=r"no right to get rayclusters in .* slipway-user"):
        connect(spec)
