"""Cleaning removes what nobody needs, manifests first, and nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.lease import Lease
from cluster.request import Request, WrongRequestError
from cluster.storage import Storage, open_storage
from jobs.bundles import BundleError, list_models, resolve, set_alias, versions
from jobs.cleaning import DAY_S, find_removals, remove
from jobs.integrity import check_version
from jobs.lineage import trace
from jobs.promotion import roll_back
from jobs.runs import Run, list_runs
from jobs.verbs import cleaning
from jobs.verbs.cleaning import clean
from tests.fake_domain import SPEC, put_data, put_version

MONTH_S = 30 * DAY_S


@pytest.fixture
def storage(local_address: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    return open_storage(local_address, "acme")


def age(storage: Storage, path: str = "", days: float = 40) -> None:
    """Makes all files below a path as old as that."""
    then = time.time() - days * DAY_S
    for entry in storage.list(path):
        local = storage.local_path(entry.path)
        assert local is not None
        os.utime(local, (then, then))


def names(storage: Storage) -> set[str]:
    return {f"{r.kind} {r.name}" for r in find_removals(storage, MONTH_S)}


def three(storage: Storage) -> list[Any]:
    return [put_version(storage, put_data(storage, f"d{i}")) for i in (1, 2, 3)]


def test_only_the_latest_stays_where_nobody_asks_for_more(storage: Storage) -> None:
    first, second, _ = three(storage)
    runs = {f"run {v.bundle['run']}" for v in (first, second)}
    assert names(storage) == set()  # all of it is young
    age(storage)
    expected = {"version tickets@1", "version tickets@2", "data d1", "data d2"} | runs
    assert names(storage) == expected
    gone = remove(storage, find_removals(storage, MONTH_S), MONTH_S)
    assert len(gone) == 6
    assert [v.number for v in versions(storage, "tickets")] == [3]
    assert storage.folders("data") == ["d3"]
    assert len(list_runs(storage)) == 1
    assert names(storage) == set()
    assert put_version(storage, "d3").number == 4  # numbers are never used twice


def test_aliases_and_the_way_back_stay(storage: Storage) -> None:
    put_data(storage, "d1")
    for number in range(1, 6):
        put_version(storage, "d1")
        set_alias(storage, "tickets", "production", number, "ann", "")
    roll_back(storage, "tickets", "production", None, "")
    age(storage)
    # 4 holds it, 5 is the latest and what it left, a further rollback goes to 3.
    assert {n for n in names(storage) if "version" in n} == {
        "version tickets@1",
        "version tickets@2",
    }
    assert "data d1" not in names(storage)


def test_parents_of_what_stays_stay(storage: Storage) -> None:
    put_version(storage, put_data(storage, "d1"), model="base")
    put_version(storage, put_data(storage, "d2"), model="base")
    put_version(storage, put_data(storage, "d3"), spec=SPEC | {"network": {"pretrained": "base@1"}})
    age(storage)
    assert names(storage) == set()


def test_what_is_under_way_stays(storage: Storage) -> None:
    three(storage)
    age(storage)
    run = Run.open(storage, "tickets", "train", "f" * 64)
    with Lease.acquire(storage, f"{run.path}/lease.json", {"host": "x"}):
        # It may be about to read anything.
        assert not {n for n in names(storage) if n.startswith("data")}
        run.next_attempt({"resumes": None, "data": "d1"})
        assert {n for n in names(storage) if n.startswith("data")} == {"data d2"}
        spec = b"models: {tickets: {network: {pretrained: tickets@2}}}"
        storage.write(f"{run.path}/spec.yaml", spec)
        assert "version tickets@2" not in names(storage)
        age(storage, run.path)
        storage.write(f"{run.path}/lease.json", storage.read(f"{run.path}/lease.json"))
        assert "run " + run.id not in names(storage)


def test_sweeps_go_with_their_run_and_stay_with_their_version(storage: Storage) -> None:
    kept = put_version(storage, put_data(storage, "d1"))
    sweeps = [Run.open(storage, "tickets", "tune", digit * 64) for digit in "ab"]
    for sweep, number in zip(sweeps, (kept.number, 77), strict=True):
        sweep.finish({"version": number}, sweep.next_attempt({"resumes": None}))
        storage.write(f"sweeps/{sweep.id}/report.html", b"x")
    trial = Run.open(storage, "tickets", "train", "c" * 64)
    live = Run.open(storage, "tickets", "tune", "d" * 64)
    age(storage)
    with Lease.acquire(storage, f"{live.path}/lease.json", {"host": "x"}):
        assert f"run {trial.id}" not in names(storage)
    storage.delete_tree(live.path)
    storage.delete_tree(trial.path)
    assert names(storage) == {f"run {sweeps[1].id}", f"sweep {sweeps[1].id}"}
    remove(storage, find_removals(storage, MONTH_S), MONTH_S)
    assert storage.folders("sweeps") == [sweeps[0].id]


def test_used_since_it_was_shown(storage: Storage) -> None:
    three(storage)
    age(storage)
    shown = find_removals(storage, MONTH_S)
    set_alias(storage, "tickets", "production", 1, "ann", "meanwhile")
    gone = remove(storage, shown, MONTH_S)
    assert "version tickets@1" not in {f"{r.kind} {r.name}" for r in gone}
    assert resolve(storage, "tickets@1").number == 1
    assert storage.exists("data/d1/manifest.json")


def test_interrupted_removal_leaves_nothing_half(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(storage)
    age(storage)
    with monkeypatch.context() as broken:
        broken.setattr(type(storage), "delete_tree", lambda self, path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            remove(storage, find_removals(storage, MONTH_S), MONTH_S)
    assert len(list_runs(storage)) == 2
    assert list_models(storage) == ["tickets"]
    remove(storage, find_removals(storage, MONTH_S), MONTH_S)
    assert len(storage.folders("runs")) == len(storage.folders("data")) == 1


def test_on_s3(s3_address: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    storage = open_storage(s3_address, "acme")
    for data in ("d1", "d2"):
        put_version(storage, put_data(storage, data))
    found = find_removals(storage, -60)  # as if all of it were old
    assert {r.kind for r in found} == {"version", "run", "data"}
    assert len(remove(storage, found, -60)) == 3
    assert [v.number for v in versions(storage, "tickets")] == [2]
    assert storage.folders("data") == ["d2"]
    assert list(trace(storage, "tickets").all_problems()) == [
        "data d2: its manifest no longer gives its digest"  # the fake's digest is none
    ]
    storage.write("models/tickets/2/shift", b"9")
    with pytest.raises(BundleError, match="shift has changed"):
        check_version(storage, resolve(storage, "tickets"))


def test_uploads_and_leftovers(storage: Storage) -> None:
    source = {"path": "s3://x/uploads/aa/a.csv", "part": "", "size": 1, "sha256": "aa"}
    put_version(storage, put_data(storage, "d1", sources=[source]))
    for digest in ("aa", "bb"):
        storage.write(f"uploads/{digest}/{digest}.csv", b"x")
    for name, digests in (("both", ("aa", "bb")), ("one", ("bb",))):
        files = [{"path": f"uploads/{digest}/x.csv", "size": 1} for digest in digests]
        storage.write_json(f"uploads/lists/{name}.json", {"files": files})
    storage.write("models/tickets/7/model.safetensors", b"half")
    storage.write("data/half/train/00000.parquet", b"half")
    age(storage)
    expected = {"upload bb.csv", "list one.json", "version tickets@7", "data half"}
    assert names(storage) == expected
    remove(storage, find_removals(storage, MONTH_S), MONTH_S)
    assert [e.path for e in storage.list("uploads")] == [
        "uploads/aa/aa.csv",
        "uploads/lists/both.json",
    ]


def test_verb(
    storage: Storage,
    local_address: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "cluster.yaml"
    model = "{domain: text, task: generation, data: 'builtin:python-docs'}"
    file.write_text(
        f"name: acme\ncluster: {{storage: {local_address.url}}}\nmodels: {{tickets: {model}}}\n"
    )
    three(storage)
    clean(Request(file=file), "30d")
    assert "nothing older than 30d can go" in capsys.readouterr().out
    age(storage)
    with pytest.raises(WrongRequestError, match="--older"):
        clean(Request(file=file), "soon")
    clean(Request(file=file, json=True), "30d")
    assert len(json.loads(capsys.readouterr().out)["removable"]) == 6
    asked: list[str] = []
    monkeypatch.setattr(cleaning, "ask_person", lambda question: bool(asked.append(question)))
    clean(Request(file=file), "30d")
    out = capsys.readouterr().out
    assert "tickets@1" in out
    assert "nothing was removed" in out
    assert len(asked) == 1
    assert "2 versions, 2 data" in asked[0].replace("runs, ", "") or "2 runs" in asked[0]
    clean(Request(file=file, yes=True), "30d")
    assert len(asked) == 1
    assert "removed 6" in capsys.readouterr().out
