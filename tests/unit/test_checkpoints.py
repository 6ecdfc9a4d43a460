"""Checkpoints: whole or not at all, in a folder or on S3, whatever storage refuses."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch.distributed

from cluster.storage import Storage, StorageError, UnavailableError, open_storage
from jobs import checkpoints as module
from jobs.agreement import AgreedError
from jobs.checkpoints import Checkpoints
from jobs.engine import Engine
from jobs.runs import Run, checkpoints

FILES = ("rank-00000.safetensors", "buffers.safetensors")


class FakeEngine:
    """Writes and reads files named as the engine names them."""

    stage = 2

    def __init__(self) -> None:
        self.value = b""
        self.failure: Exception | None = None

    def save(self, folder: Path) -> dict[str, Any]:
        for name in FILES:
            (folder / name).write_bytes(self.value)
        if self.failure is not None:
            raise self.failure
        return {"steps": 1, "scale": {}}

    def gather(self, names: list[str], fetch: Callable[[str], Path]) -> list[Path]:
        return [fetch(name) for name in names]

    def fill(self, paths: list[Path], memory: dict[str, Any]) -> None:
        assert memory == {"steps": 1, "scale": {}}
        contents = {path.read_bytes() for path in paths}
        assert len(contents) == 1
        self.value = contents.pop()

    def refresh(self) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def _group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "PATIENCE_S", 60.0)
    monkeypatch.setattr(module, "RETRY_EVERY_S", 0.01)
    monkeypatch.setattr("jobs.errand.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("jobs.errand.LOOK_EVERY_S", 0.005)


@pytest.fixture
def run(storage: Storage) -> Run:
    run = Run.open(storage, "m", "train", "7f3a" + "0" * 60)
    run.next_attempt({})
    return run


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def send(kept: Checkpoints, engine: FakeEngine, step: int, last: bool = False) -> None:
    engine.value = f"state {step}".encode()
    kept.save(cast(Engine, engine), step, {"metric": None, "progress": [None, 0]}, last)


def saved(run: Run, engine: FakeEngine, *steps: int, keep: int = 9) -> Checkpoints:
    kept = Checkpoints(run, 1, keep, higher_is_better=False)
    for step in steps:
        send(kept, engine, step, last=True)
    return kept


def test_newest_is_resumed_and_old_ones_go(run: Run, engine: FakeEngine) -> None:
    kept = saved(run, engine, 10, 20, 30, keep=2)
    assert [c.step for c in checkpoints(run)] == [20, 30]
    assert not [e for e in run.storage.list(run.path) if "step-000010" in e.path]
    engine.value = b""
    found = kept.resume(cast(Engine, engine))
    assert found is not None
    assert found.step == 30
    assert engine.value == b"state 30"


@pytest.mark.parametrize("address", ["local"], indirect=True)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted"])
def test_going_back_from_damaged_ones(
    run: Run, engine: FakeEngine, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = saved(run, engine, 10, 20)
    path = f"{run.path}/1/checkpoints/step-000020/{name}"
    if damage == "deleted":
        run.storage.delete(path)
    else:
        data = run.storage.read(path)
        middle = len(data) // 2
        rest = b"" if damage == "truncated" else bytes([data[middle] ^ 0x80]) + data[middle + 1 :]
        run.storage.write(path, data[:middle] + rest)
    found = kept.resume(cast(Engine, engine))
    assert found is not None
    assert found.step == 10
    assert engine.value == b"state 10"
    told = capsys.readouterr().out
    missing = (name, damage) == ("manifest.json", "deleted")
    assert ("going back to an earlier" in told and name in told) != missing


def test_nothing_whole_is_a_start_from_the_beginning(run: Run, engine: FakeEngine) -> None:
    kept = saved(run, engine, 10)
    engine.value = b"as it was"
    run.storage.write(f"{run.path}/1/checkpoints/step-000010/{FILES[1]}", b"x")
    assert kept.resume(cast(Engine, engine)) is None
    assert engine.value == b"as it was"


def test_a_checkpoint_of_another_version_is_told(
    run: Run, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = saved(run, engine, 10)
    path = f"{run.path}/1/checkpoints/step-000010/manifest.json"
    run.storage.write_json(path, run.storage.read_json(path) | {"format": 1})
    assert kept.resume(cast(Engine, engine)) is None
    assert "saved by another version" in capsys.readouterr().out


class Away:
    """A store that refuses while ``away`` is set, and counts what it was asked."""

    def __init__(self, patch: pytest.MonkeyPatch, kind: type[Storage]) -> None:
        self.away, self.asked = True, 0
        for name in ("upload", "write"):
            self._wrap(patch, kind, name, getattr(kind, name))

    def _wrap(self, patch: pytest.MonkeyPatch, kind: type[Storage], name: str, method: Any) -> None:
        def call(storage: Storage, *arguments: Any) -> Any:
            self.asked += 1
            if self.away:
                raise UnavailableError("the disk is full; free some space and run again")
            return method(storage, *arguments)

        patch.setattr(kind, name, call)


def steps_until(done: Callable[[], bool], kept: Checkpoints) -> None:
    """What the loop does after each step."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        if kept.delivered:
            kept.settle()
        time.sleep(0.005)


def test_training_goes_on_while_the_store_is_away(
    run: Run,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = saved(run, engine, 10)
    store = Away(monkeypatch, type(run.storage))
    send(kept, engine, 20)
    steps_until(lambda: store.asked > 2, kept)
    send(kept, engine, 30)
    assert [c.step for c in checkpoints(run)] == [10]
    told = capsys.readouterr().out
    assert "the checkpoint of step 20 waits: the disk is full" in told
    assert "the checkpoint of step 30 was not saved: the disk is full" in told
    assert "the steps since step 10 are at risk" in told
    store.away = False
    steps_until(lambda: [c.step for c in checkpoints(run)] == [10, 20], kept)
    send(kept, engine, 40)
    steps_until(lambda: [c.step for c in checkpoints(run)] == [10, 20, 40], kept)
    assert kept.resume(cast(Engine, engine)) is not None
    assert engine.value == b"state 40"


def test_the_last_checkpoint_waits_and_then_says_why(
    run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = saved(run, engine, 10)
    store = Away(monkeypatch, type(run.storage))
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    with pytest.raises(AgreedError, match=r"step 20 was not saved: the disk is full"):
        send(kept, engine, 20, last=True)
    store.away = False
    monkeypatch.setattr(module, "PATIENCE_S", 60.0)
    assert not [e for e in run.storage.list(run.path) if "step-000020" in e.path]
    found = kept.resume(cast(Engine, engine))
    assert found is not None
    assert found.step == 10
    send(kept, engine, 20, last=True)
    assert [c.step for c in checkpoints(run)] == [10, 20]


def test_training_does_not_wait_for_an_upload(
    run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, write_json = threading.Event(), type(run.storage).write_json

    def slow(storage: Storage, path: str, value: Any) -> None:
        assert go.wait(10)
        write_json(storage, path, value)

    monkeypatch.setattr(type(run.storage), "write_json", slow)
    kept = saved(run, engine)
    send(kept, engine, 10)
    steps_until(lambda: kept._publication is not None, kept)
    assert checkpoints(run) == []
    go.set()
    send(kept, engine, 20)  # one is in flight at a time
    assert [c.step for c in checkpoints(run)] == [10]


def test_a_superseded_attempt_changes_nothing(run: Run, engine: FakeEngine) -> None:
    kept = saved(run, engine, 10)
    send(kept, engine, 20)
    steps_until(lambda: kept._sent is not None and kept._sent.files.done, Checkpoints(run, 1, 9, 1))
    run.next_attempt({})
    before = {e.path: e.size for e in run.storage.list() if "step-000020" not in e.path}
    kept.settle()
    steps_until(lambda: kept._publication is not None and kept._publication.done, kept)
    assert not run.storage.exists(f"{run.path}/1/checkpoints/step-000020/manifest.json")
    with pytest.raises(AgreedError, match="attempt 2 of m-train-7f3a has taken over from 1"):
        send(kept, engine, 30)
    with pytest.raises(AgreedError, match="taken over"):
        send(kept, engine, 30, last=True)
    assert {e.path: e.size for e in run.storage.list() if "step-000020" not in e.path} == before
    assert [c.step for c in checkpoints(run)] == [10]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "full"), StorageError("the file is too large; run again")]
)
def test_an_engine_that_cannot_write(
    run: Run,
    engine: FakeEngine,
    failure: Exception,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine.failure = failure
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    named = "the disk is full" if isinstance(failure, OSError) else "too large"
    kept = saved(run, engine)
    send(kept, engine, 10)
    assert "step 10 was not saved" in (told := capsys.readouterr().out)
    assert named in told
    assert "the steps so far are at risk" in told
    with pytest.raises(AgreedError, match=named):
        send(kept, engine, 20, last=True)
    assert checkpoints(run) == []
    assert not [e for e in run.storage.list(run.path) if "step-" in e.path]


def test_what_an_ended_attempt_left_half_saved_goes(run: Run, engine: FakeEngine) -> None:
    saved(run, engine, 10)
    run.storage.write(f"{run.path}/1/checkpoints/step-000020/{FILES[0]}", b"half")
    run.next_attempt({})
    kept = Checkpoints(run, 2, 9, higher_is_better=False)
    send(kept, engine, 30, last=True)
    assert run.storage.folders(f"{run.path}/1/checkpoints") == ["step-000010"]
    assert [c.step for c in checkpoints(run)] == [10, 30]


def test_nothing_is_left_on_the_node(s3_address: Any, engine: FakeEngine, tmp_path: Path) -> None:
    run = Run.open(open_storage(s3_address, "acme"), "m", "train", "7f3a" + "0" * 60)
    run.next_attempt({})
    kept = saved(run, engine, 10)
    kept.resume(cast(Engine, engine))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    manifest = checkpoints(run)[0].manifest
    assert sorted(manifest["files"]) == sorted(FILES)
