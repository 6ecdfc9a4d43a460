"""Local sources travel to remote storage once, by digest, and change no digest on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.request import WrongRequestError
from cluster.spec import Spec, load
from cluster.storage import Storage, StorageError, UnavailableError, open_storage
from jobs import uploads
from jobs.domains.files import Source
from jobs.prepare import prepare
from jobs.stages import find_data_digest, train_digest
from jobs.uploads import Upload, moved, travel


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))


def silent(text: str) -> None:
    pass


def refuse(question: str) -> bool:
    raise AssertionError(question)


def make_spec(folder: Path, store: Any, **data: Any) -> Spec:
    storage = {"url": store.url, "endpoint": store.endpoint}
    storage |= {"credentials": {"secret": "s3"}} if store.credentials else {}
    network = {"type": "gpt", "context": 8}
    settings = {"tokenizer": {"type": "character", "size": 300}, "source": "corpus", "max_bad": 0.1}
    settings |= data
    document = {
        "name": "acme",
        "cluster": {"storage": {k: v for k, v in storage.items() if v}},
        "models": {
            "m": {"domain": "text", "task": "generation", "network": network, "data": settings}
        },
    }
    path = folder / "cluster.yaml"
    path.write_text(json.dumps(document))
    return load(path)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    for name in ("a/same.txt", "b/same.txt", "c/日本 #1 [x] 100%.txt", "d.TXT", "empty.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = "same" if "same" in name else name
        (folder / name).write_text("" if "empty" in name else f"some words of {kind}\n" * 40)
    (folder / "rows.jsonl").write_text("".join(f'{{"text": "row {i}"}}\n' for i in range(40)))
    return folder


def store_of(spec: Spec) -> Storage:
    return open_storage(spec.cluster.storage, spec.name)


def reloaded(spec: Spec, folder: Path) -> Spec:
    """As the cluster sees it: dumped to a file elsewhere and read again."""
    folder.mkdir()
    (folder / "spec.yaml").write_text(spec.dump())
    return load(folder / "spec.yaml")


def test_digests_are_those_of_the_local_files(
    s3_address: Any, tmp_path: Path, corpus: Path
) -> None:
    held = corpus / "b"
    spec = make_spec(
        tmp_path,
        s3_address,
        source=["corpus/rows.jsonl", "corpus", "corpus/*/*.txt"],
        split={"validation": str(held), "test": str(corpus / "d.TXT")},
    )
    storage = store_of(spec)
    before = find_data_digest(spec.model("m"), silent)
    there = reloaded(travel(spec, "m", storage, silent, False, refuse), tmp_path / "there")
    data = there.model("m").data
    assert all(place.startswith(storage.url("uploads/")) for place in data.source)
    for path in [p for p in corpus.rglob("*") if p.is_file()]:
        path.unlink()
    after = find_data_digest(there.model("m"), silent, storage)
    assert after == before
    assert train_digest(there.model("m"), after) == train_digest(spec.model("m"), before)


def test_other_sources_stay_where_they_are(s3_address: Any, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, s3_address, split={"validation": "s3://other/held/*.txt"})
    storage = store_of(spec)
    sources = [
        Source("builtin:python-docs"),
        Source("/here/one.txt"),
        Source("s3://other/two.txt"),
        Source("/here/3.txt", named=False),
        Source("/here/4.txt", named=False),
        Source("s3://other/held/5.txt", "validation", named=False),
    ]
    digests = {source.path: "f" * 64 for source in sources}
    data = moved(spec.model("m").data, sources, digests, storage)
    one, lists = storage.url(f"uploads/{'f' * 64}/one.txt"), storage.url("uploads/lists/")
    assert data.source[:3] == ("builtin:python-docs", one, "s3://other/two.txt")
    assert data.source[3].startswith(lists)
    assert len(data.source) == 4
    assert data.split.validation == "s3://other/held/*.txt"


def test_rows_are_those_of_the_local_files(
    s3_address: Any, local_address: Any, tmp_path: Path, corpus: Path
) -> None:
    here = make_spec(tmp_path, local_address)
    assert travel(here, "m", store_of(here), silent, False, refuse) is here
    near = prepare(here.model("m"), store_of(here), silent)
    spec = make_spec(tmp_path, s3_address)
    storage = store_of(spec)
    there = travel(spec, "m", storage, silent, False, refuse)
    far = prepare(there.model("m"), storage, silent)
    assert far.digest == near.digest
    assert far.manifest["files"] == near.manifest["files"]
    assert "100%.txt" in json.dumps(far.manifest["sources"])


def test_each_file_travels_once(
    s3_address: Any, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path, s3_address)
    storage, sent = store_of(spec), list[str]()
    upload = type(storage).upload

    def counted(self: Storage, local: Path, path: str) -> str:
        if len(sent) == 2:
            raise UnavailableError("the store went away")
        sent.append(path)
        return upload(self, local, path)

    monkeypatch.setattr(uploads, "NUM_THREADS", 1)
    monkeypatch.setattr(type(storage), "upload", counted)
    with pytest.raises(UnavailableError):
        travel(spec, "m", storage, silent, False, refuse)
    monkeypatch.setattr(type(storage), "upload", upload)
    told: list[str] = []
    first = travel(spec, "m", storage, told.append, False, refuse)
    assert len(set(sent)) == 2
    assert "uploading 3 files" in told[-1]  # of six, two are equal and two were there
    told.clear()
    assert travel(spec, "m", storage, told.append, False, refuse) == first
    assert not any("uploading" in line for line in told)


def test_much_is_asked_for(
    s3_address: Any, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "ASK_BYTES", 100)
    spec = make_spec(tmp_path, s3_address)
    storage, asked = store_of(spec), list[str]()

    def no(question: str) -> bool:
        asked.append(question)
        return False

    with pytest.raises(WrongRequestError, match="nothing was uploaded"):
        travel(spec, "m", storage, silent, False, no)
    assert asked[0].startswith("Upload 5 files")
    with pytest.raises(WrongRequestError, match="-y"):
        travel(spec, "m", storage, silent, False)  # pytest has no terminal
    assert storage.list("uploads") == []
    travel(spec, "m", storage, silent, True, refuse)
    travel(spec, "m", storage, silent, False, refuse)  # all is there: nothing to ask


def test_a_file_that_changes_under_way_is_not_kept(
    s3_address: Any, tmp_path: Path, corpus: Path
) -> None:
    storage = store_of(make_spec(tmp_path, s3_address))
    upload = Upload(Source(str(corpus / "d.TXT")), "0" * 64)
    with pytest.raises(StorageError, match=r"d\.TXT changed"):
        uploads._upload(storage, upload)
    assert storage.list("uploads") == []
