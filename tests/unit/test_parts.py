"""Lines reach the store soon, once each, whatever the store and whoever died."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.parts import PartWriter, read_joined
from cluster.storage import Storage, StorageError, UnavailableError, open_storage

PATH = "runs/r/1/metrics.jsonl"


def test_nothing_yet(storage: Storage) -> None:
    assert read_joined(storage, PATH) == ""


def test_lines_in_order(storage: Storage) -> None:
    storage.write("runs/r/1/metrics.jsonl.backup", b"another file\n")
    with PartWriter(storage, PATH) as writer:
        writer.append("one")
        writer.append("zwei é\n")
        writer.flush()
        assert read_joined(storage, PATH) == "one\nzwei é\n"
        writer.append("three")
    assert read_joined(storage, PATH) == "one\nzwei é\nthree\n"
    writer.close()


@pytest.mark.parametrize(("interval_s", "lines"), [(60.0, 1), (0.05, 2)])
def test_published_in_the_background(storage: Storage, interval_s: float, lines: int) -> None:
    """The first line waits for nothing, others for no longer than the interval."""
    with PartWriter(storage, PATH, interval_s=interval_s) as writer:
        for count in range(1, lines + 1):
            writer.append("one")
            deadline = time.monotonic() + 5
            while len(read_joined(storage, PATH)) < 4 * count and time.monotonic() < deadline:
                time.sleep(0.02)
            assert read_joined(storage, PATH) == count * "one\n"


def test_a_second_writer_goes_on(storage: Storage) -> None:
    for line in ("one", "two"):
        with PartWriter(storage, PATH) as writer:
            writer.append(line)
    assert read_joined(storage, PATH) == "one\ntwo\n"


def test_few_parts(s3_address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.parts.PART_BYTES", 10)
    storage = open_storage(s3_address, "acme")
    with PartWriter(storage, PATH) as writer:
        for line in "abcdefgh":
            writer.append(line * 3)
            writer.flush()
    assert [e.path[-5:] for e in storage.list("runs/r/1")] == ["00001", "00002", "00003", "00004"]
    assert read_joined(storage, PATH).split() == [line * 3 for line in "abcdefgh"]


def test_a_writer_killed_in_mid_line(local_address: Any) -> None:
    storage = open_storage(local_address, "acme")
    storage.write(PATH, b'{"step": 1}\n{"st')
    with PartWriter(storage, PATH) as writer:
        writer.append('{"step": 2}')
    assert read_joined(storage, PATH).splitlines()[-1] == '{"step": 2}'


def test_s3_away_for_a_while(s3_address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage: Any = open_storage(s3_address, "acme")

    def away(path: str, data: bytes) -> bool:
        raise UnavailableError("away")

    with PartWriter(storage, PATH) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "create", away)
            writer.append("one")
            with pytest.raises(StorageError, match="away"):
                writer.flush()
            writer.append("two")
        writer.flush()
        assert writer.error is None
    assert read_joined(storage, PATH) == "one\ntwo\n"


def test_disk_full_for_a_while(local_address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes half of the first line; nothing is lost and nothing twice."""
    storage = open_storage(local_address, "acme")
    write, room = os.write, [2]

    def short(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= (done := write(descriptor, data[: room[0]]))
        return done

    with PartWriter(storage, PATH) as writer:
        with monkeypatch.context() as patch:
            patch.setattr("cluster.parts.os.write", short)
            writer.append("first")
            assert "the disk is full" in str(writer.error)
            writer.append("second")
            with pytest.raises(UnavailableError, match="the disk is full"):
                writer.flush()
        writer.append("third")
        assert writer.error is None
    path = Path(storage.url(PATH))
    assert path.read_text() == "first\nsecond\nthird\n"
