"""An incumbent is scored on the candidate's records: as they are, or read its own way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cluster.storage import Storage, open_storage
from jobs import incumbents
from jobs.bundles import Version
from jobs.incumbents import of_other
from tests.fake_domain import SPEC, FakeDomain, put_data, put_version, source_of


@pytest.fixture
def storage(local_address: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    return open_storage(local_address, "acme")


def relabel(storage: Storage, digest: str, labels: str) -> None:
    """Gives prepared data a processor of its own."""
    path = f"data/{digest}"
    storage.write(f"{path}/processor/labels.json", labels.encode())
    manifest = storage.read_json(f"{path}/manifest.json")
    manifest["files"]["processor/labels.json"]["sha256"] = digest * 32
    storage.write_json(f"{path}/manifest.json", manifest)


def scored(storage: Storage, version: Version, other: Version) -> list[Any]:
    folder = storage.local_path(version.path)
    assert folder is not None
    domain: Any = FakeDomain(folder)
    domain.labels = ["cat", "dog"]
    found = of_other(storage, version, domain, other)
    assert (found.data, found.split, found.name) == ("d2", "test", "d2-test")
    batches = list(found.batches)
    return list(zip(*(np.concatenate([b[k] for b in batches]) for k in ("value", "label"))))  # noqa: B905


def test_equal_processors_share_rows(storage: Storage) -> None:
    old = put_version(storage, put_data(storage, "d1"))
    new = put_version(storage, put_data(storage, "d2", size=20))
    assert len(scored(storage, old, new)) == 20


def test_a_test_part_in_files_of_its_own(storage: Storage, tmp_path: Path) -> None:
    place = tmp_path / "held.txt"
    place.write_text("1\n-2\n")
    old = put_version(storage, put_data(storage, "d1"))
    put_data(storage, "d2")
    relabel(storage, "d2", '["x"]')
    spec = SPEC | {"data": {"source": ["x"], "split": {"test": str(place)}}}
    new = put_version(storage, "d2", spec=spec)
    assert scored(storage, old, new) == [(1.0, 1), (-2.0, 0)]


def test_otherwise_the_files_are_read_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "data.csv"
    place.write_text("x")
    sources = [source_of(place)]
    old = put_version(storage, put_data(storage, "d1"))
    put_data(storage, "d2", sources=sources)
    relabel(storage, "d2", '["bird", "cat"]')
    spec = SPEC | {"data": {"source": [str(place)], "split": {"test": 0.1}}}
    new = put_version(storage, "d2", spec=spec)
    # Read its way, label 0 is "dog" and 1 is "bird", which it never heard of.
    put_data(storage, "d3", size=30, sources=sources)
    relabel(storage, "d3", '["dog", "bird"]')
    asked: list[Any] = []

    def prepare(model: Any, *given: Any) -> Any:
        asked.append(model.network.pretrained)
        return SimpleNamespace(digest="d3", manifest=storage.read_json("data/d3/manifest.json"))

    monkeypatch.setattr(incumbents, "prepare", prepare)
    rows = scored(storage, old, new)
    assert asked == ["tickets@1"]
    assert rows
    assert {label for _, label in rows} == {1}
    assert all(value <= 0 for value, _ in rows)
    place.write_text("changed")
    manifest = storage.read_json("data/d3/manifest.json")
    storage.write_json("data/d3/manifest.json", manifest | {"sources": [source_of(place)]})
    with pytest.raises(ValueError, match=r"the data of tickets@2 has changed .*data\.split\.test"):
        scored(storage, old, new)
