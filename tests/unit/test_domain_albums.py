"""A folder of many files is one source, and the same one wherever it lies."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from cluster.spec import Spec, load
from cluster.storage import Storage, open_storage
from jobs import uploads
from jobs.domains.albums import PICTURES, digest_of, find_sources, open_album, write_zip
from jobs.domains.files import DataError
from jobs.prepare import prepare
from jobs.stages import find_data_digest
from jobs.uploads import send_data, travel


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets 日本"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i in range(20):
            value = i + (100 if label == "dog" else 0)
            Image.new("L", (8, 8), value).save(folder / label / f"{i}.png")
    return folder


def test_an_album_is_the_zip_that_it_would_be(pets: Path) -> None:
    (source,) = find_sources([str(pets)], PICTURES)
    first, again = io.BytesIO(), io.BytesIO()
    write_zip(source, first)
    write_zip(source, again)
    assert first.getvalue() == again.getvalue()
    assert digest_of(source) == hashlib.sha256(first.getvalue()).hexdigest()
    packed = pets.parent / "pets.zip"
    packed.write_bytes(first.getvalue())
    (archive,) = find_sources([str(packed)], PICTURES | {".zip"})
    assert digest_of(archive) == digest_of(source)
    with open_album(source) as a, open_album(archive) as b:
        assert a.names == b.names
        assert a.names[0] == "pets 日本/cat/0.png"
        assert a.read(a.names[3], 1 << 20) == b.read(b.names[3], 1 << 20)
        assert a.size(a.names[3]) == b.size(b.names[3]) == len(a.read(a.names[3], 1 << 20))


def test_other_tasks_see_files_as_ever(pets: Path) -> None:
    (pets / "a.csv").write_text("x")
    (pets / "b.csv").write_text("x")
    found = find_sources([str(pets)], frozenset({".csv"}))
    assert [source.path.rpartition("/")[2] for source in found] == ["a.csv", "b.csv"]
    with pytest.raises(DataError, match="holds none of"):
        find_sources([str(pets)], frozenset({".txt"}))


@pytest.fixture
def project(
    tmp_path: Path, request: pytest.FixtureRequest, pets: Path
) -> tuple[Spec, Spec, Storage]:
    """The same model with a store on S3 and with one on disk, and the first store."""
    address = request.getfixturevalue("s3_address")
    remote = {"url": address.url, "endpoint": address.endpoint, "credentials": {"secret": "s3"}}
    specs = []
    for name, storage in (("remote", remote), ("local", {"url": str(tmp_path / "store")})):
        network = {"type": "cnn", "width": 4}
        model = {"domain": "vision", "task": "classification", "network": network}
        document = {
            "name": "acme",
            "cluster": {"storage": storage},
            "models": {"m": model | {"data": str(pets)}},
        }
        (tmp_path / f"{name}.yaml").write_text(json.dumps(document))
        specs.append(load(tmp_path / f"{name}.yaml"))
    return specs[0], specs[1], open_storage(specs[0].cluster.storage, "acme")


def test_a_folder_travels_with_its_classes(
    project: tuple[Spec, Spec, Storage], pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, local, storage = project
    told: list[str] = []
    sent = travel(spec, "m", storage, told.append, yes=False)
    (place,) = sent.model("m").data.source
    assert place.startswith(storage.url("uploads/"))
    assert place.endswith("/pets 日本.zip")
    assert len(storage.list("uploads")) == 1
    disk = open_storage(local.cluster.storage, "acme")
    here = prepare(local.model("m"), disk, told.append)
    there = prepare(sent.model("m"), storage, told.append)
    assert there.digest == here.digest
    assert there.manifest["labels"] == here.manifest["labels"]
    assert there.manifest["splits"] == here.manifest["splits"]
    assert find_data_digest(sent.model("m"), told.append, storage) == here.digest
    monkeypatch.setattr(uploads, "_send", lambda storage, missing, *_: told.append(str(missing)))
    travel(spec, "m", storage, told.append, yes=False)
    assert told[-1] == "[]"


def test_a_folder_for_evaluation_travels_as_one(
    project: tuple[Spec, Spec, Storage], pets: Path
) -> None:
    storage = project[2]
    place = send_data(storage, str(pets), PICTURES, lambda text: None, yes=False)
    (source,) = find_sources([place], PICTURES | {".zip"}, store=storage)
    with open_album(source) as album:
        assert len(album.names) == 40
