"""Checkpoints: whole or not at all, in a folder or on S3, whatever storage refuses."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch.distributed

from cluster.storage import Storage, UnavailableError
from jobs import checkpoints as module
from jobs.agreement import AgreedError
from jobs.checkpoints import Checkpoints
from jobs.deferred import deferred
from jobs.engine import Engine
from jobs.runs import Run, checkpoints

FILES = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt")


class FakeEngine:
    """Writes and reads files named as DeepSpeed names them."""

    stage = 2

    def __init__(self) -> None:
        self.value = b""
        self.failure: Exception | None = None

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        for name in FILES:
            (folder / "state" / name).write_bytes(self.value)
        if self.failure is not None:
            raise self.failure

    def load(self, folder: Path) -> None:
        self.value = (folder / "state" / FILES[0]).read_bytes()


@pytest.fixture(scope="module", autouse=True)
def _group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def run(storage: Storage) -> Run:
    run = Run.open(storage, "m", "train", "7f3a" + "0" * 60)
    run.next_attempt({})
    return run


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def saved(run: Run, engine: FakeEngine, *steps: int, keep: int = 9) -> Checkpoints:
    kept = Checkpoints(run, 1, keep, higher_is_better=False)
    for step in steps:
        engine.value = f"state {step}".encode()
        kept.save(cast(Engine, engine), step, {"metric": None, "progress": [None, 0]})
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


@pytest.mark.parametrize("damage", ["changed", "gone", "manifest"])
def test_going_back_from_damaged_ones(
    run: Run, engine: FakeEngine, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = saved(run, engine, 10, 20)
    folder = f"{run.path}/1/checkpoints/step-000020"
    if damage == "changed":
        run.storage.write(f"{folder}/state/{FILES[1]}", b"state 2O")
    elif damage == "gone":
        run.storage.delete(f"{folder}/state/{FILES[1]}")
    else:
        run.storage.write(f"{folder}/manifest.json", b'{"st')
    found = kept.resume(cast(Engine, engine))
    assert found is not None
    assert found.step == 10
    assert engine.value == b"state 10"
    told = capsys.readouterr().out
    assert ("going back to an earlier" in told) == (damage != "manifest")
    assert damage == "manifest" or FILES[1] in told


def test_nothing_whole_is_a_start_from_the_beginning(run: Run, engine: FakeEngine) -> None:
    kept = saved(run, engine, 10)
    run.storage.write(f"{run.path}/1/checkpoints/step-000010/state/{FILES[0]}", b"x")
    assert kept.resume(cast(Engine, engine)) is None


def full(*_: Any) -> Any:
    raise UnavailableError("/data/store: the disk is full; free some space and run again")


@pytest.mark.parametrize("what", ["upload", "write"])
def test_a_full_store_leaves_nothing_behind(
    run: Run, engine: FakeEngine, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRIES_S", (0.01,))
    kept = saved(run, engine, 10)
    local = run.storage.local_path() is not None
    with monkeypatch.context() as patch:
        patch.setattr(type(run.storage), "write" if local else what, full)
        with pytest.raises(AgreedError, match=r"step 20 was not saved: /data/store: the disk is"):
            saved(run, engine, 20)
    assert not [e for e in run.storage.list(run.path) if "step-000020" in e.path]
    found = kept.resume(cast(Engine, engine))
    assert found is not None
    assert found.step == 10
    saved(run, engine, 20)
    assert [c.step for c in checkpoints(run)] == [10, 20]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "full"), RuntimeError("PytorchStreamWriter failed\nmore")]
)
def test_an_engine_that_cannot_write(run: Run, engine: FakeEngine, failure: Exception) -> None:
    engine.failure = failure
    named = "the disk is full" if isinstance(failure, OSError) else "PytorchStreamWriter failed;"
    with pytest.raises(AgreedError, match=named):
        saved(run, engine, 10)
    assert checkpoints(run) == []
    assert not [e for e in run.storage.list(run.path) if "step-" in e.path]


def test_a_store_that_is_away_for_a_moment(
    s3_address: Any, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.storage import open_storage

    monkeypatch.setattr(module, "RETRIES_S", (0.01, 0.01))
    run = Run.open(open_storage(s3_address, "acme"), "m", "train", "7f3a" + "0" * 60)
    run.next_attempt({})
    kind, calls = type(run.storage), list[int]()
    upload = kind.upload

    def flaky(self: Storage, local: Path, path: str) -> str:
        calls.append(1)
        return full() if len(calls) < 3 else upload(self, local, path)  # type: ignore[no-any-return]

    monkeypatch.setattr(kind, "upload", flaky)
    saved(run, engine, 10)
    manifest = checkpoints(run)[0].manifest
    assert json.loads(json.dumps(sorted(manifest["files"]))) == [f"state/{n}" for n in FILES]


def test_deferred_errors_come_at_the_end() -> None:
    class Target:
        def save(self) -> str:
            raise OSError(errno.ENOSPC, "full")

    target, answers = Target(), list[str]()

    def save() -> None:
        with deferred(target, "save"):
            answers.append(target.save())

    with pytest.raises(OSError, match="full"):
        save()
    assert answers == [None]
    assert "save" not in vars(target)
