"""The strict validator of ../shared/lab, with KubeRay's schemas."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.documents import write_documents
from cluster.spec import Spec, load

SHARED = Path(__file__).resolve().parents[3] / "shared"
KINDS = ("rayclusters", "rayjobs", "rayservices")

HEADER = """
name: acme
cluster:
  storage: {storage}
  provider: {provider}
"""
MODEL = """
models:
  tickets: {domain: text, task: generation, data: builtin:python-docs}
"""


def _validator() -> Any:
    path = SHARED / "lab" / "validate_manifests.py"
    loaded = importlib.util.spec_from_file_location("validate_manifests", path)
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[dict[str, Any]]], list[str]]:
    """One line per fault of documents, after they went through YAML as kubectl would read it."""
    module = _validator()
    folder = tmp_path_factory.mktemp("crds")
    for kind in KINDS:
        (folder / f"{kind}.yaml").symlink_to(SHARED / "crds" / f"ray.io_{kind}.yaml")
    schemas = module.load_crds(folder)

    @cache
    def faults_of(text: str) -> list[str]:
        (document,) = yaml.load_all(text, Loader=yaml.CSafeLoader)
        return [f"{document['kind']}: {line}" for line in module.errors(document, schemas)]

    def check(documents: list[dict[str, Any]]) -> list[str]:
        texts = [write_documents([document]) for document in documents]
        read = [yaml.load(text, Loader=yaml.CSafeLoader) for text in texts]
        assert read == documents  # nothing changes its meaning on the way through YAML 1.1
        return [line for text in texts for line in faults_of(text)]

    return check


@pytest.fixture
def spec_of(tmp_path: Path) -> Callable[..., Spec]:
    """A spec on Kubernetes: keys of ``cluster:`` and of the file as they stand in the YAML."""

    def make(cluster: str = "", rest: str = MODEL, provider: str = "", more: str = "") -> Spec:
        image = "" if provider.startswith("image:") else "image: r.acme.com/slipway:1"
        inside = ", ".join(filter(None, ("type: kubernetes", image, provider)))
        path = tmp_path / "cluster.yaml"
        head = HEADER.replace("{storage}", "s3://acme/prod").replace("{provider}", f"{{{inside}}}")
        if "pools:" not in cluster and "cpus:" not in cluster:
            cluster += "\nhead: {cpus: 4}"
        body = textwrap.indent(textwrap.dedent(cluster), "  ")
        path.write_text(head + body + "\n" + rest + "\n" + more)
        return load(path)

    return make
