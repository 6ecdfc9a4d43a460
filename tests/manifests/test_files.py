"""The files in k8s/ that are applied as they are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from cluster.code import ROOT

K8S = ROOT / "k8s"
# Kinds of others, whose schemas are not at hand.
FOREIGN = ("kueue.x-k8s.io/", "monitoring.coreos.com/")
KUSTOMIZATIONS = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))


def built(folder):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: str(path.relative_to(K8S)))
def test_kustomizations_build_to_what_kubernetes_takes(folder, faults):
    ours = [each for each in built(folder) if not each["apiVersion"].startswith(FOREIGN)]
    # faults() also demands that a document survives our own writing of YAML
    assert faults(ours) == []


def test_two_teams_share_a_cluster_and_nothing_else():
    found = built(K8S / "overlays" / "gpu-cloud")
    names = {each["metadata"]["name"] for each in found if each["kind"] == "Namespace"}
    assert names == {"team-a", "team-b"}
    spaced = [each for each in found if each["kind"] in ("Role", "RoleBinding", "ResourceQuota")]
    assert {each["metadata"]["namespace"] for each in spaced} == {"team-a", "team-b"}
    for binding in (each for each in found if each["kind"] == "RoleBinding"):
        assert binding["subjects"][0]["name"] == binding["metadata"]["namespace"]
    assert not any(each["kind"].startswith("ClusterRole") for each in found)


def test_rights_are_least():
    found = built(K8S / "base")
    for role in (each for each in found if each["kind"] == "Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "secrets" in rule["resources"] and set(rule["verbs"]) != {"create"}:
                assert rule["resourceNames"]


def test_no_file_holds_a_secret():
    for path in K8S.rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            assert not isinstance(document, dict) or document.get("kind") != "Secret", path


def test_the_image_is_pinned_and_runs_without_root():
    text = (K8S / "image" / "Dockerfile").read_text()
    assert ":latest" not in text
    assert re.findall(r"^USER (.+)$", text, re.M)[-1] == "1000:1000"
    assert text.count("\nFROM ") == 6
    assert "-c constraints.txt" in text
    for kind in ("wget", "procps"):  # KubeRay's probe, and the preStop of raycluster.yaml
        assert kind in text


def test_alerts_stand_in_the_runbook_and_the_dashboard_reads():
    rules = yaml.safe_load((K8S / "monitoring" / "alerts.yaml").read_text())
    alerts = [rule["alert"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    runbook = (K8S / "README.md").read_text()
    assert alerts
    assert [alert for alert in alerts if alert not in runbook] == []
    assert json.loads((K8S / "monitoring" / "dashboard.json").read_text())["panels"]


@pytest.mark.parametrize("name", ["operator", "kueue", "monitoring"])
def test_values_of_charts_name_their_version_or_chart(name):
    text = (K8S / name / "values.yaml").read_text()
    assert isinstance(yaml.safe_load(text), dict)
