"""Leases: of many who want the same work, one does it, and another takes over when it is gone.

A lease is one small file that its holder rewrites by compare-and-swap every quarter of `ttl_s`. It
has expired once the store's own clock says that nobody has written it for `ttl_s`, so clocks of
machines need not agree. A holder that was suspended finds out at its next renewal; what it still
writes is fenced off by attempt numbers (jobs/runs.py), not by the lease.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cluster.storage import MissingError, Storage, StorageError, encode_json

TTL_S = 60.0


class Held(ValueError):  # noqa: N818
    """Somebody else holds the lease and is, as far as anyone can tell, alive."""

    def __init__(self, holder: dict[str, Any]) -> None:
        self.holder = holder
        who = ", ".join(f"{key} {value}" for key, value in sorted(holder.items()))
        super().__init__(f"already under way ({who})")

    def __reduce__(self) -> tuple[type[Held], tuple[dict[str, Any]]]:
        return Held, (self.holder,)


class Lease:
    """A lease that is held. As a context manager it keeps itself alive and is released at the end.

    `lost` is set once somebody else has it, or once it could not be renewed for `ttl_s`.
    """

    def __init__(
        self, storage: Storage, path: str, holder: dict[str, Any], data: bytes, ttl_s: float
    ) -> None:
        self.path = path
        self.holder = holder
        self.lost = threading.Event()
        self._storage = storage
        self._data = self._attempted = data
        self._ttl_s = ttl_s
        self._renewed = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._released = False

    @classmethod
    def acquire(
        cls,
        storage: Storage,
        path: str,
        holder: dict[str, Any],
        is_dead: Callable[[dict[str, Any]], bool] = lambda holder: False,
        ttl_s: float = TTL_S,
    ) -> Lease:
        """The lease, taken at once where it is free, expired, or its holder `is_dead`; else Held.

        `holder` says who asks (host, pid, submission, ...): JSON values, shown to people.
        """
        data = _content(holder)
        while not storage.create(path, data):
            try:
                current, tag = storage.read_tagged(path)
                age_s = storage.age(path)
            except MissingError:
                continue
            if not _is_free(current, age_s, is_dead, ttl_s):
                raise Held(json.loads(current)["holder"])
            if storage.swap(path, data, tag):
                break
        return cls(storage, path, holder, data, ttl_s)

    def renew(self) -> bool:
        """One sign of life; False, and `lost`, where somebody else has the lease by now."""
        return self._replace(_content(self.holder))

    def release(self) -> None:
        """Gives the lease up, if it is still ours; the next one need not wait."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if not self._released:
            self._released = self._replace(_content(self.holder, released=True))

    def keep_alive(self) -> Self:
        """Starts renewing in the background, until `release`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew_often, daemon=True)
            self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.keep_alive()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # The work is over: a store that is away now only means that the lease has to expire.
        with contextlib.suppress(StorageError):
            self.release()

    def _replace(self, data: bytes) -> bool:
        with self._lock:
            if self.lost.is_set() or not self._swap(data):
                self.lost.set()
                return False
            self._data = data
            self._renewed = time.monotonic()
            return True

    def _swap(self, data: bytes) -> bool:
        try:
            current, tag = self._storage.read_tagged(self.path)
        except MissingError:
            return False
        # The store may have taken a renewal whose answer was lost on the way.
        mine = current in (self._data, self._attempted)
        self._attempted = data
        return mine and self._storage.swap(self.path, data, tag)

    def _renew_often(self) -> None:
        while not self._ended.wait(self._ttl_s / 4):
            try:
                self.renew()
            except StorageError:
                if time.monotonic() - self._renewed > self._ttl_s:
                    self.lost.set()
            if self.lost.is_set():
                return


def _content(holder: dict[str, Any], released: bool = False) -> bytes:
    """Each content differs from all others, so that comparing contents compares owners."""
    return encode_json({"holder": holder, "released": released, "token": uuid.uuid4().hex})


def _is_free(
    current: bytes, age_s: float, is_dead: Callable[[dict[str, Any]], bool], ttl_s: float
) -> bool:
    try:
        lease = json.loads(current)
        return bool(lease["released"]) or age_s > ttl_s or is_dead(lease["holder"])
    except (ValueError, KeyError, TypeError):
        return True  # not a lease: damaged by something else, and nobody can be holding it
