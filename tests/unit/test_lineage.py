"""Lineage: complete from alias to source file, and honest about what no longer matches."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cluster.code import code_revision
from cluster.request import Request
from cluster.spec import parse_model
from cluster.storage import Storage, open_storage
from jobs.bundles import BundleError, set_alias
from jobs.forks import Origin, fork_digest
from jobs.lineage import Node, trace
from jobs.prepare import prepare
from jobs.runs import Run, stage_digest
from jobs.stages import train_digest
from jobs.verbs.why import why
from tests.fake_domain import SPEC, put_data, put_version, source_of

NETWORK = {"type": "gpt", "layers": 1, "width": 16, "heads": 2, "context": 16}


@pytest.fixture
def storage(local_address: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    return open_storage(local_address, "acme")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("First Citizen: before we proceed any further, hear me speak.\n" * 200)
    return path


def prepared(storage: Storage, source: Path) -> tuple[str, dict[str, Any]]:
    data = {"source": [str(source)], "tokenizer": {"type": "character", "size": 40}}
    content = {"domain": "text", "task": "generation", "data": data, "network": NETWORK}
    model = parse_model(content)
    return prepare(model, storage, lambda text: None).digest, model.model_dump(
        mode="json", by_alias=True
    )


def kinds(node: Node) -> list[str]:
    return [node.kind] + [kind for child in node.made_from for kind in kinds(child)]


def test_from_alias_to_source(storage: Storage, source: Path) -> None:
    digest, spec = prepared(storage, source)
    files = {"state/x": {"sha256": "0", "size": 3}}
    path = "runs/r/1/checkpoints/step-000003"
    storage.write(f"{path}/state/x", b"abc")
    storage.write_json(f"{path}/manifest.json", {"step": 3, "files": files})
    checkpoint = {"path": path, "digest": stage_digest(files)}
    version = put_version(storage, digest, spec=spec, checkpoint=checkpoint, seed=7)
    compared = {"gate": "a > 1", "terms": {"a": 2.0}, "digest": version.digest}
    set_alias(storage, "tickets", "production", 1, "ann@laptop", "slipway promote", compared)
    node = trace(storage, "tickets@production")
    assert kinds(node) == [
        *("alias", "version", "run", "checkpoint", "spec", "code", "data", "source")
    ]
    assert list(node.all_problems()) == []
    assert (node.facts["who"], node.facts["gate"]) == ("ann@laptop", "a > 1")
    document = json.dumps(node.as_dict())
    assert all(text in document for text in (digest, str(source), checkpoint["digest"]))
    assert '"seed": 7' in document

    source.write_text("other")
    storage.write(f"{version.path}/shift", b"9")
    shard = next(e.path for e in storage.list(f"data/{digest}/train"))
    storage.write(shard, b"rows")
    storage.delete(f"{path}/state/x")
    found = "\n".join(trace(storage, "tickets@production").all_problems())
    assert "version tickets@1: shift has changed" in found
    assert f"source {source}: the file has changed" in found
    assert f"data {digest}: train/" in found
    assert "checkpoint step 3: state/x is gone" in found
    source.unlink()
    storage.delete_tree(f"data/{digest}")
    storage.delete_tree(Run(storage, version.bundle["run"]).path)
    found = "\n".join(trace(storage, "tickets").all_problems())
    assert f"data {digest}: it is gone" in found
    assert f"run {version.bundle['run']}: its folder is gone" in found


def test_a_manifest_that_was_edited(storage: Storage, source: Path) -> None:
    digest, spec = prepared(storage, source)
    put_version(storage, digest, spec=spec)
    path = f"data/{digest}/manifest.json"
    manifest = storage.read_json(path)
    manifest["sources"][0]["sha256"] = "0" * 64
    storage.write_json(path, manifest)
    found = "\n".join(trace(storage, "tickets").all_problems())
    assert "its manifest no longer gives its digest" in found


def test_a_bundle_that_was_edited_after_its_promotion(storage: Storage) -> None:
    version = put_version(storage, put_data(storage, "d1"))
    set_alias(storage, "tickets", "live", 1, "ann", "", {"digest": version.digest})
    content = storage.read_json(f"{version.path}/bundle.json")
    content["files"] = {"shift": "0" * 64}
    storage.write_json(f"{version.path}/bundle.json", content)
    assert "bundle.json has changed" in trace(storage, "tickets@live").problems[0]


def test_pretrained_parents_and_runs(storage: Storage, tmp_path: Path) -> None:
    put_data(storage, "d1")
    place = tmp_path / "x.txt"
    place.write_text("x")
    put_data(storage, "d2", sources=[source_of(place)])
    parent = put_version(storage, "d1", model="base")
    spec = SPEC | {"network": {"pretrained": "base@1"}}
    child = put_version(storage, "d2", spec=spec)
    node = trace(storage, "tickets")
    assert [n.name for n in node.made_from] == [child.bundle["run"], "d2", "base@1"]
    by_run = trace(storage, child.bundle["run"])
    assert (by_run.kind, by_run.facts["version"]) == ("run", "tickets@1")
    assert {"data", "version", "source"} <= set(kinds(by_run))
    storage.delete(f"{parent.path}/bundle.json")
    assert any("base" in problem for problem in trace(storage, "tickets").all_problems())
    with pytest.raises(BundleError, match=r"there is no 'nothing'; models: tickets; runs: base-"):
        trace(storage, "nothing")


def test_a_sweep_and_the_checkpoint_that_a_trial_went_on_from(storage: Storage) -> None:
    spec = parse_model(SPEC)
    plain = spec.model_dump(mode="json", by_alias=True)
    code = {"version": "1", "digest": code_revision()["digest"]}
    put_data(storage, "d" * 64)
    version = put_version(storage, "d" * 64, spec=plain, code=code)
    run = Run(storage, version.bundle["run"])
    origin = Origin("tickets-train-0000", 30)
    digest = fork_digest(train_digest(spec, "d" * 64), origin)
    storage.write_json(
        f"{run.path}/run.json", run.info() | {"digest": digest, "origin": asdict(origin)}
    )
    sweep = Run.open(storage, "tickets", "tune", "e" * 64)
    storage.write_json(f"sweeps/{sweep.id}/log/000000.json", {"event": "sweep"})
    values = {"network.type": "gpt", "train.optimizer.lr": 0.1}
    result = {"version": version.number, "trial": 3, "trials": 8, "values": values}
    sweep.finish(result, sweep.next_attempt({"resumes": None}))
    node = trace(storage, "tickets@1")
    [found] = [child for child in node.made_from if child.kind == "sweep"]
    assert found.name == sweep.id
    assert (found.facts["trial"], found.facts["values"]) == (3, values)
    [trained] = [child for child in node.made_from if child.kind == "run"]
    assert trained.facts["continues"] == "tickets-train-0000 from step 30"
    assert trained.problems == []


def test_verb(
    storage: Storage, local_address: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.yaml"
    model = "{domain: text, task: generation, data: 'builtin:python-docs'}"
    file.write_text(
        f"name: acme\ncluster: {{storage: {local_address.url}}}\nmodels: {{tickets: {model}}}\n"
    )
    gone = tmp_path / "gone [bold].txt"
    gone.write_text("x")
    put_version(storage, put_data(storage, "d1", sources=[source_of(gone)]))
    gone.unlink()
    why(Request(file=file), "tickets")
    out = capsys.readouterr().out
    assert "gone [bold].txt" in out
    assert "✗ the file is gone" in out
    why(Request(file=file, json=True), "tickets")
    document = json.loads(capsys.readouterr().out)
    assert document["matches"] is False
    assert document["lineage"]["kind"] == "version"
