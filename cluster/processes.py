"""The processes of one cluster: found by the mark they inherit, ended by their ids alone.

Every process of a local cluster inherits `SLIPWAY_CLUSTER=<id>` from its head. Ray's workers rename
themselves, which may overwrite the memory that the environment is read from, so that Ray's
processes of the head's session and the descendants of all of these count as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

MARK = "SLIPWAY_CLUSTER"
# What marks Ray's own processes, which need no time to save anything.
CORE = (
    "ray-dashboard-",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "site-packages/ray/",
    "multiprocessing.",
)


class Ended(NamedTuple):
    """A process that was ended."""

    pid: int
    name: str
    forced: bool
    """Whether it had to be killed after it ignored SIGTERM."""


def owned(mark: str, session: int | None = None) -> list[psutil.Process]:
    """All processes of the cluster `mark`, the calling process excepted.

    `session` is the session id that the head was started in, if it is known.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if _carries(process, mark) or (session and _in_session(process, session)):
            found[process.pid] = process
    for process in list(found.values()):
        found |= {child.pid: child for child in _children(process)}
    found.pop(os.getpid(), None)
    return [process for process in found.values() if is_running(process)]


def end(mark: str, session: int | None = None, grace_s: float = 4.0) -> list[Ended]:
    """End every process of the cluster `mark`: jobs by SIGTERM, SIGKILL after `grace_s` seconds.

    Ray's own processes are killed once no job is left. Looks again until nothing is left, because
    one process may start another while it is being ended.
    """
    ended: dict[int, Ended] = {}
    deadline = time.monotonic() + grace_s
    while processes := owned(mark, session):
        guests = [process for process in processes if not _is_core(process)]
        forced = not guests or time.monotonic() >= deadline
        for process in guests or processes:
            ended[process.pid] = Ended(process.pid, _name(process), forced)
            _signal(process, forced)
        remaining_s = max(0.3, deadline - time.monotonic())
        psutil.wait_procs(guests or processes, timeout=remaining_s)
    return list(ended.values())


def is_running(process: psutil.Process) -> bool:
    """Whether the process still runs: a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def identity(pid: int) -> tuple[int, float] | None:
    """The process's id and start time, which together name it for good; None if it is gone."""
    try:
        process = psutil.Process(pid)
        return (pid, process.create_time()) if is_running(process) else None
    except psutil.Error:
        return None


def all_alive(identities: Iterable[tuple[int, float]]) -> bool:
    """Whether every process is the one that was recorded, and runs."""
    return all(
        (now := identity(pid)) is not None and abs(now[1] - started) < 1.0
        for pid, started in identities
    )


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        content = Path(f"/proc/{process.pid}/environ").read_bytes()
        return f"{MARK}={mark}".encode() in content.split(b"\0")
    except FileNotFoundError:
        pass
    except OSError:
        return False  # another user's process
    try:  # not Linux, or just gone
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def _in_session(process: psutil.Process, session: int) -> bool:
    """Session ids are used again once all members are gone, so the process must look like Ray's."""
    try:
        if os.getsid(process.pid) != session:
            return False
        return "ray" in _name(process) or any("ray" in word for word in process.cmdline()[:4])
    except (psutil.Error, OSError):
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "?"


def _is_core(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()[:6]
    except psutil.Error:
        return True
    return any(sign in word for word in words for sign in CORE)


def _signal(process: psutil.Process, forced: bool) -> None:
    try:
        process.kill() if forced else process.terminate()
    except psutil.Error:
        return
