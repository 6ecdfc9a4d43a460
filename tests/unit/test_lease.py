"""One holder at a time; a dead one is replaced at once, a silent one once it has expired."""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

import pytest

from cluster.lease import Held, Lease
from cluster.local_storage import LocalStorage
from cluster.storage import Storage, UnavailableError, open_storage

PATH = "runs/r/lease.json"


def test_held_until_released(storage: Storage) -> None:
    with Lease.acquire(storage, PATH, {"pid": 1}) as lease:
        with pytest.raises(Held, match=r"already under way \(pid 1\)") as caught:
            Lease.acquire(storage, PATH, {"pid": 2})
        assert caught.value.holder == {"pid": 1}
        assert lease.renew()
        assert not lease.lost.is_set()
    second = Lease.acquire(storage, PATH, {"pid": 2})
    assert second.renew()
    second.release()
    second.release()


def test_dead_holder_is_replaced_at_once(storage: Storage) -> None:
    first = Lease.acquire(storage, PATH, {"pid": 1})
    second = Lease.acquire(storage, PATH, {"pid": 2}, is_dead=lambda holder: holder["pid"] == 1)
    assert not first.renew()
    assert first.lost.is_set()
    first.release()
    assert second.renew()
    with pytest.raises(Held, match="pid 2"):
        Lease.acquire(storage, PATH, {"pid": 3}, is_dead=lambda holder: holder["pid"] == 1)


def test_silent_holder_expires(storage: Storage) -> None:
    """On S3 after a whole second, because that is as finely as it tells the time."""
    ttl_s = 0.2 if isinstance(storage, LocalStorage) else 1
    first = Lease.acquire(storage, PATH, {"pid": 1}, ttl_s=ttl_s)
    with pytest.raises(Held):
        Lease.acquire(storage, PATH, {"pid": 2}, ttl_s=60)
    time.sleep(2.1 * ttl_s)
    Lease.acquire(storage, PATH, {"pid": 2}, ttl_s=ttl_s)
    assert not first.renew()


def test_keep_alive_keeps_it(local_address: Any) -> None:
    storage = open_storage(local_address, "acme")
    with Lease.acquire(storage, PATH, {"pid": 1}, ttl_s=0.4) as lease:
        time.sleep(1.0)
        with pytest.raises(Held):
            Lease.acquire(storage, PATH, {"pid": 2}, ttl_s=0.4)
        assert not lease.lost.is_set()


def test_keep_alive_notices_a_loss(local_address: Any) -> None:
    storage = open_storage(local_address, "acme")
    with Lease.acquire(storage, PATH, {"pid": 1}, ttl_s=0.4) as lease:
        Lease.acquire(storage, PATH, {"pid": 2}, is_dead=lambda holder: True)
        assert lease.lost.wait(5)
    with pytest.raises(Held, match="pid 2"):
        Lease.acquire(storage, PATH, {"pid": 3})


def test_storage_away(local_address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short absence is bridged; one of `ttl_s` counts as lost."""
    storage: Any = open_storage(local_address, "acme")
    with Lease.acquire(storage, PATH, {"pid": 1}, ttl_s=0.8) as lease:

        def away(path: str) -> tuple[bytes, str]:
            raise UnavailableError("away")

        monkeypatch.setattr(storage, "read_tagged", away)
        time.sleep(0.4)
        assert not lease.lost.is_set()
        assert lease.lost.wait(5)


def test_threads_race_for_an_expired_lease(storage: Storage) -> None:
    Lease.acquire(storage, PATH, {"pid": 0})
    won: list[int] = []
    start = threading.Barrier(4)

    def contend(pid: int) -> None:
        start.wait()
        try:
            Lease.acquire(storage, PATH, {"pid": pid}, is_dead=lambda holder: holder["pid"] == 0)
            won.append(pid)
        except Held:
            pass

    threads = [threading.Thread(target=contend, args=(pid,)) for pid in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_damaged_lease_is_nobodys(storage: Storage) -> None:
    storage.write(PATH, b"{")
    assert Lease.acquire(storage, PATH, {"pid": 1}).renew()


def test_held_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(Held({"pid": 1}))).holder == {"pid": 1}
