"""Every shipped example renders to the document that lies in goldens/, letter by letter.

GOLDENS=write pytest tests/manifests/test_goldens.py     after a change that is meant
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.code import ROOT
from cluster.documents import write_documents
from cluster.kubernetes.documents import service_documents
from cluster.kubernetes.rayjob import rayjob
from cluster.kubernetes.rayservice import tokens_file
from cluster.launcher import installation
from cluster.rendering import rendered
from cluster.spec import load
from serve.applications import applications
from tests.manifests.rules import broken_rules

EXAMPLES = sorted((ROOT / "cluster" / "examples").glob("*.yaml"))
GOLDENS = Path(__file__).with_name("goldens")


@pytest.fixture(autouse=True)
def versions(monkeypatch):
    """Goldens do not change with every pin: test_launcher holds those."""
    monkeypatch.setattr(installation, "pins", lambda: ["ray==2.60.0", "torch==2.13.0"])
    monkeypatch.setattr(installation, "requirements", lambda: ["torch>=2.13"])
    monkeypatch.setattr(installation.platform, "python_version_tuple", lambda: ("3", "11", "9"))
    monkeypatch.setenv("HOME", "/home/me")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_render_as_before(path, faults):
    spec = load(path)
    found = rendered(spec)
    if spec.cluster.provider.type == "kubernetes":
        found.append(rayjob(spec, "assistant", "assistant-train-7f3a"))
        if spec.models["assistant"].serve:
            served = applications(spec, ["assistant"], tokens_file(spec))
            found += service_documents(spec, served)
        assert faults(found) == []
        rays = [document for document in found if document["kind"].startswith("Ray")]
        assert [broken_rules(document) for document in rays] == [[] for _ in rays]
    golden = GOLDENS / path.name
    if os.environ.get("GOLDENS") == "write":
        golden.write_text(write_documents(found))
    assert write_documents(found) == golden.read_text()


def test_all_providers_have_an_example():
    kinds = {load(path).cluster.provider.type for path in EXAMPLES}
    assert kinds == {"kubernetes", "aws", "gcp", "azure", "onprem"}
