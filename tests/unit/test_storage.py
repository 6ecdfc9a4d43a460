"""Every store keeps the same promises: whole files, one winner, manifests last."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.storage import (
    DamagedError,
    MissingError,
    Storage,
    StorageError,
    open_storage,
    publish_folder,
)

RACER = """
import pickle, sys
storage = pickle.loads(bytes.fromhex(sys.argv[1]))
sys.stdin.read(1)
won = [storage.create(f"race/{i}", sys.argv[2].encode()) for i in range(12)]
print("".join(str(int(w)) for w in won))
"""


def race(storage: Storage, script: str, names: list[str]) -> list[str]:
    """Runs the script in one process per name, all let go at once; their outputs."""
    state = pickle.dumps(storage).hex()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, state, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("x")
        racer.stdin.flush()
    outputs = [racer.communicate()[0].strip() for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    return outputs


def test_write_read_list_delete(storage: Storage) -> None:
    assert storage.list() == []
    assert storage.folders("a") == []
    storage.write("a/b/one", b"1")
    storage.write("a/two words é", b"22")
    storage.write("a/two words é", b"333")
    storage.write("ab", b"4")
    assert storage.read("a/two words é") == b"333"
    assert [(e.path, e.size) for e in storage.list("a")] == [("a/b/one", 1), ("a/two words é", 3)]
    assert storage.folders() == ["a"]
    assert storage.folders("a") == ["b"]
    assert storage.exists("ab")
    assert not storage.exists("a")
    storage.delete("ab")
    storage.delete("ab")
    assert not storage.exists("ab")
    storage.delete_tree("a")
    storage.delete_tree("a")
    assert storage.list() == []


def test_missing(storage: Storage, tmp_path: Path) -> None:
    for ask in (storage.read, storage.read_tagged, storage.age):
        with pytest.raises(MissingError, match="nope does not exist"):
            ask("nope")
    with pytest.raises(MissingError, match="does not exist"):
        storage.download("nope", tmp_path / "nope")
    assert list(tmp_path.glob("*nope*")) == []


def test_json(storage: Storage) -> None:
    storage.write_json("x.json", {"b": "é", "a": [1, None]})
    assert storage.read_json("x.json") == {"b": "é", "a": [1, None]}
    storage.write("x.json", b'{"b": ')
    with pytest.raises(DamagedError, match=r"x\.json is damaged"):
        storage.read_json("x.json")


def test_create_only_once(storage: Storage) -> None:
    assert storage.create("deep/er/x", b"first")
    assert not storage.create("deep/er/x", b"second")
    assert storage.read("deep/er/x") == b"first"


def test_swap_only_what_was_read(storage: Storage) -> None:
    assert not storage.swap("x", b"1", '"0123"')
    storage.write("x", b"1")
    _, tag = storage.read_tagged("x")
    assert storage.swap("x", b"2", tag)
    assert not storage.swap("x", b"3", tag)
    assert storage.read("x") == b"2"


def test_age_is_by_the_stores_clock(storage: Storage) -> None:
    storage.write("x", b"1")
    assert 0 <= storage.age("x") < 30


def test_processes_race_to_create(storage: Storage) -> None:
    first, second = race(storage, RACER, ["first", "second"])
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        assert (a, b) in {("0", "1"), ("1", "0")}
        assert storage.read(f"race/{i}") == (b"first" if a == "1" else b"second")


def test_threads_race_to_swap(storage: Storage) -> None:
    """A counter that 4 threads raise 8 times each loses none."""
    storage.write("counter", b"0")

    def count() -> None:
        for _ in range(8):
            while True:
                data, tag = storage.read_tagged("counter")
                if storage.swap("counter", b"%d" % (int(data) + 1), tag):
                    break

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.read("counter") == b"32"


def test_upload_and_download(storage: Storage, tmp_path: Path) -> None:
    data = bytes(range(256)) * 50_000
    (tmp_path / "file").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    assert storage.upload(tmp_path / "file", "a/file") == digest
    assert storage.download("a/file", tmp_path / "new" / "file") == digest
    assert (tmp_path / "new" / "file").read_bytes() == data
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["file"]
    with pytest.raises(StorageError, match="absent does not exist"):
        storage.upload(tmp_path / "absent", "a/file")


def test_publish_folder(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "x").write_bytes(b"xx")
    published = publish_folder(storage, source, "data/1", "manifest.json", {"rows": 3})
    digest = hashlib.sha256(b"xx").hexdigest()
    assert published == {"rows": 3, "files": {"sub/x": {"sha256": digest, "size": 2}}}
    assert storage.read_json("data/1/manifest.json") == published
    again = publish_folder(storage, source, "data/1", "manifest.json", {"rows": 4})
    assert again == published


def test_manifest_comes_last(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / "source" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_bytes(b"x")
    upload = storage.upload

    def fail_at_b(local: Path, path: str) -> str:
        if local.name == "b":
            raise StorageError("away")
        return upload(local, path)

    monkeypatch.setattr(storage, "upload", fail_at_b)
    with pytest.raises(StorageError, match="away"):
        publish_folder(storage, tmp_path / "source", "data/1", "manifest.json", {})
    assert storage.exists("data/1/a")
    assert not storage.exists("data/1/manifest.json")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b/", ".", "a\nb"])
def test_paths_stay_inside(storage: Storage, path: str) -> None:
    with pytest.raises(StorageError, match="not a path inside the storage"):
        storage.write(path, b"x")


def test_bulk_access_by_pyarrow(storage: Storage) -> None:
    storage.write("a/x", b"123")
    with storage.filesystem().open_input_stream(storage.bulk_path("a/x")) as stream:
        assert stream.read() == b"123"


def test_check_passes_and_leaves_nothing(storage: Storage) -> None:
    storage.check()
    assert storage.list() == []


def test_pickles_and_shows_no_secret(storage: Storage) -> None:
    storage.write("x", b"1")
    data = pickle.dumps(storage)
    assert b"hush-hush" not in data
    assert b"AKIDEXAMPLE" not in data
    copy: Any = pickle.loads(data)
    assert copy.read("x") == b"1"
    assert "hush-hush" not in repr(copy) + repr(copy.__dict__)
    assert copy.url("x") == storage.url("x")


def test_the_bulk_file_system_pickles_without_keys(storage: Storage) -> None:
    storage.write("x", b"1")
    data = pickle.dumps(storage.filesystem())
    assert b"hush-hush" not in data
    assert b"AKIDEXAMPLE" not in data
    with pickle.loads(data).open_input_stream(storage.bulk_path("x")) as stream:
        assert stream.read() == b"1"


def test_import_is_light() -> None:
    code = (
        "import sys, json, cluster.storage, cluster.lease, cluster.parts, cluster.local_storage, "
        "cluster.s3, jobs.runs, jobs.bundles\n"
        "print(json.dumps([m for m in ('boto3', 'botocore', 'pyarrow', 'torch', 'ray') "
        "if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


def test_opening_touches_nothing(local_address: Any) -> None:
    open_storage(local_address, "acme")
    assert not Path(local_address.url).exists()


def test_folder_marks_of_others_are_no_files(storage: Storage) -> None:
    storage.filesystem().create_dir(storage.bulk_path("runs/one/ray"))
    storage.write("runs/one/run.json", b"{}")
    assert [entry.path for entry in storage.list()] == ["runs/one/run.json"]
