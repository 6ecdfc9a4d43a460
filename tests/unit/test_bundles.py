"""Version numbers that nobody shares, versions that are whole, aliases that remember."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.storage import Storage, StorageError
from jobs.bundles import (
    BundleError,
    Version,
    aliases,
    claim_version,
    fetch_bundle,
    list_models,
    publish_version,
    record_evaluation,
    resolve,
    set_alias,
    versions,
)

CLAIMER = """
import pickle, sys
from jobs.bundles import claim_version
storage = pickle.loads(bytes.fromhex(sys.argv[1]))
sys.stdin.read(1)
print(*[claim_version(storage, f"model{i}", sys.argv[2]) for i in range(5)])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle" / "tokenizer").mkdir(parents=True)
    (tmp_path / "bundle" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "bundle" / "tokenizer" / "vocab.json").write_bytes(b"{}")
    return tmp_path / "bundle"


def publish(storage: Storage, folder: Path, run: str, model: str = "gpt") -> Version:
    number = claim_version(storage, model, run)
    return publish_version(storage, model, number, folder, {"format": 1, "run": run})


def test_processes_race_for_a_number(storage: Storage) -> None:
    state = pickle.dumps(storage).hex()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, state, f"run-{i}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("x")
        racer.stdin.flush()
    first, second = (racer.communicate()[0].split() for racer in racers)
    assert len(first) == len(second) == 5
    for pair in zip(first, second, strict=True):
        assert sorted(pair) == ["1", "2"]


def test_threads_race_for_a_number(storage: Storage) -> None:
    """Four runs and two attempts of each: four numbers, the same for both attempts."""
    claimed: list[tuple[str, int]] = []
    start = threading.Barrier(8)

    def claim(run: str) -> None:
        start.wait()
        claimed.append((run, claim_version(storage, "gpt", run)))

    threads = [threading.Thread(target=claim, args=(f"run-{i % 4}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 8
    assert sorted(number for _, number in set(claimed)) == [1, 2, 3, 4]


def test_publish_and_resolve(storage: Storage, folder: Path) -> None:
    assert claim_version(storage, "gpt", "unfinished") == 1
    version = publish(storage, folder, "a")
    assert (version.number, sorted(version.bundle["files"])) == (
        2,
        ["model.safetensors", "tokenizer/vocab.json"],
    )
    assert publish(storage, folder, "a") == version
    assert [v.number for v in versions(storage, "gpt")] == [2]
    assert list_models(storage) == ["gpt"]
    publish(storage, folder, "b")
    set_alias(storage, "gpt", "production", 2, "ann@laptop", "first")
    record_evaluation(storage, version, "abc-test", {"metrics": {"loss": 1.5}})
    for reference, number in {
        "gpt": 3,
        "gpt@latest": 3,
        "gpt@2": 2,
        "gpt@production": 2,
    }.items():
        assert resolve(storage, reference).number == number
    held = resolve(storage, "gpt@production")
    assert held.aliases == ("production",)
    assert held.evaluations == {"abc-test": {"metrics": {"loss": 1.5}}}


def test_a_number_belongs_to_one_run(storage: Storage, folder: Path) -> None:
    publish(storage, folder, "a")
    with pytest.raises(BundleError, match="gpt@1 belongs to a; claim a new number"):
        publish_version(storage, "gpt", 1, folder, {"run": "b"})


def test_unknown_names(storage: Storage, folder: Path) -> None:
    with pytest.raises(BundleError, match="no version of a model 'gpt'; models: none yet"):
        resolve(storage, "gpt")
    publish(storage, folder, "a")
    set_alias(storage, "gpt", "staging", 1, "ann", "")
    for reference in ("../gpt", "", "cat"):
        with pytest.raises(BundleError, match="models: gpt"):
            resolve(storage, reference)
    for reference in ("gpt@7", "gpt@prod", "gpt@", "gpt@1@2"):
        with pytest.raises(BundleError, match="write gpt@ and one of: latest, staging, 1"):
            resolve(storage, reference)
    for alias in ("latest", "3", "a/b", ""):
        with pytest.raises(BundleError, match="cannot be an alias"):
            set_alias(storage, "gpt", alias, 1, "ann", "")


def test_racing_aliases_lose_no_move(storage: Storage, folder: Path) -> None:
    publish(storage, folder, "a")

    def move(who: int) -> None:
        for turn in range(3):
            set_alias(storage, "gpt", "production", 1, f"{who}-{turn}", "because")

    threads = [threading.Thread(target=move, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = aliases(storage, "gpt")["production"].history
    assert sorted(m["who"] for m in history) == [f"{w}-{t}" for w in range(3) for t in range(3)]
    assert [m["from"] for m in history] == [None] + [1] * 8


def test_fetch(storage: Storage, folder: Path, tmp_path: Path) -> None:
    version = publish(storage, folder, "a")
    local = fetch_bundle(storage, version, tmp_path / "cache")
    assert (local / "model.safetensors").read_bytes() == b"weights"
    assert (local / "tokenizer" / "vocab.json").read_bytes() == b"{}"
    assert (local / "bundle.json").is_file()
    assert fetch_bundle(storage, version, tmp_path / "cache") == local
    if not storage.local_path():
        assert [f.name for f in (tmp_path / "cache" / "bundles").iterdir()] == [local.name]


def test_fetch_notices_changes(storage: Storage, folder: Path, tmp_path: Path) -> None:
    version = publish(storage, folder, "a")
    storage.write(f"{version.path}/model.safetensors", b"other!!")
    with pytest.raises(BundleError, match=r"gpt@1: .*model\.safetensors has changed"):
        fetch_bundle(storage, version, tmp_path / "cache")
    storage.write(f"{version.path}/model.safetensors", b"weights")
    fetch_bundle(storage, version, tmp_path / "cache")
    storage.delete(f"{version.path}/model.safetensors")
    with pytest.raises((BundleError, StorageError), match=r"model\.safetensors (is gone|does not)"):
        fetch_bundle(storage, version, tmp_path / "cache2")


def test_fetch_refuses_names_that_lead_outside(storage: Storage, tmp_path: Path) -> None:
    version = Version("gpt", 1, {"files": {"../../x": "0"}})
    with pytest.raises(StorageError, match="not a path inside"):
        fetch_bundle(storage, version, tmp_path / "cache")
