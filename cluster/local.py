"""`provider: local`: a Ray cluster on this machine that shares nothing with any other.

Own ports, temporary folder, token and head state; found and ended by the mark its processes carry.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import processes
from .connection import ClusterError, Connection
from .home import Home, Record, Report, boot_id, cause, explained
from .machine import LOOPBACK, are_free, free_ports, head_environment, num_cpus, object_store_size

if TYPE_CHECKING:
    from .spec import Spec

START_TIMEOUT_S = 120.0
KEEPER_TIMEOUT_S = 30.0
WATCHED = ("gcs_server", "raylet", "dashboard")


class Versions(NamedTuple):
    """What client and cluster must share."""

    ray: str
    python: str


def start(
    spec: Spec, report: Report = lambda message: None, object_store_bytes: int | None = None
) -> Connection:
    """Start the spec's cluster on this machine, or attach to it if it is up.

    `report` receives lines for people. `object_store_bytes` overrides the size that suits the
    machine. Returns a connection whose `fresh` says whether this call started the cluster.

    Raises:
        ClusterError: it cannot be started; nothing is left behind.
    """
    home = home_of(spec)
    with home.lock(report):
        record = _kept_record(home)
        if record is not None and is_alive(record):
            _check_versions(record)
            return _connection(home, record, fresh=False)
        if record is not None or processes.owned(home.mark):
            report(
                f"the cluster {home.id} did not end properly: cleaning up, then starting it anew"
            )
        _clean(home, record, keep_head_state=True)
        report("starting a local Ray cluster")
        return _start_new(spec, home, record, report, object_store_bytes)


def stop(spec: Spec, report: Report = lambda message: None) -> list[processes.Ended]:
    """End the spec's cluster: every process of it, and nothing else. Returns what was ended."""
    home = home_of(spec)
    if not home.folder.is_dir():
        return []
    with home.lock(report):
        return _clean(home, home.record(), keep_head_state=False)


def find(spec: Spec) -> Connection | None:
    """The spec's cluster if it is up, None if it is not; takes no lock and starts nothing.

    Raises:
        ClusterError: it was started with another version of Ray or Python.
    """
    home = home_of(spec)
    record = _kept_record(home)
    if record is None or not is_alive(record):
        return None
    _check_versions(record)
    return _connection(home, record, fresh=False)


def home_of(spec: Spec) -> Home:
    """The state folder of the spec's cluster."""
    return Home(spec.name, str(spec.cluster.storage.url))


def session_of(spec: Spec) -> int | None:
    """The session id that the head was started in; None if none was since the last boot."""
    record = home_of(spec).record()
    return record.session if record is not None and record.boot == boot_id() else None


def is_alive(record: Record) -> bool:
    """Whether head, raylet and dashboard of a recorded cluster all run."""
    return (
        record.boot == boot_id()
        and all(kind in record.processes for kind in WATCHED)
        and processes.all_alive(record.processes[kind] for kind in WATCHED)
    )


def _kept_record(home: Home) -> Record | None:
    """The home's record, once what has ended of its head is there again where it is kept."""
    deadline = time.monotonic() + KEEPER_TIMEOUT_S
    while True:
        record = home.record()
        if record is None or is_alive(record) or time.monotonic() > deadline:
            return record
        keepers = [record.processes.get(kind) for kind in ("keeper", "raylet")]
        if record.boot != boot_id() or not processes.all_alive(each or (0, 0) for each in keepers):
            return record
        time.sleep(0.2)


def own_versions() -> Versions:
    """Ray's version and Python's major.minor in this process."""
    return Versions(metadata.version("ray"), ".".join(platform.python_version_tuple()[:2]))


def _check_versions(record: Record) -> None:
    running, own = Versions(record.ray, record.python), own_versions()
    if running != own:
        raise ClusterError(
            f"the cluster runs Ray {running.ray} on Python {running.python}, but this is "
            f"Ray {own.ray} on Python {own.python}; restart it from here: slipway down, slipway up"
        )


def _connection(home: Home, record: Record, fresh: bool) -> Connection:
    return Connection(
        id=home.id,
        address=f"127.0.0.1:{record.port}",
        api_url=f"http://127.0.0.1:{record.dashboard_port}",
        token_path=home.token,
        python=sys.executable,
        fresh=fresh,
        log=home.log,
        job_logs=Path(record.temp) / "session_latest" / "logs",
        extra=LOOPBACK,
    )


def _start_new(
    spec: Spec, home: Home, previous: Record | None, report: Report, object_store: int | None
) -> Connection:
    # The ports of before, so that shells with the old address find the new cluster.
    wanted = [previous.port, previous.dashboard_port] if previous is not None else []
    for attempt in range(4):
        ports = wanted + free_ports(4 - len(wanted)) if are_free(wanted) else free_ports(4)
        try:
            with _all_or_nothing(home):
                record = _launch(spec, home, ports, object_store)
            return _connection(home, record, fresh=True)
        except HeadError as error:
            taken = "already occupied" in error.cause or not are_free(ports)
            if attempt == 3 or not (taken or home.head_state.exists()):
                raise
            if not taken:
                report(f"starting without the earlier head state, which failed: {error.cause}")
                shutil.rmtree(home.head_state, ignore_errors=True)
            wanted = []
    raise AssertionError("unreachable")


class HeadError(ClusterError):
    """The head's processes did not come up."""

    def __init__(self, reason: str, log: Path) -> None:
        super().__init__(f"the local cluster did not start: {reason}\nits log: {log}")
        self.cause = reason


def _launch(spec: Spec, home: Home, ports: list[int], object_store: int | None) -> Record:
    temp = home.temp()
    home.write_token()
    # Ray's job supervisor looks for "the" Ray of the machine, and takes this file's word for it.
    (temp / "ray_current_cluster").write_text(f"127.0.0.1:{ports[0]}")
    ready = home.folder / "ready.json"
    ready.unlink(missing_ok=True)
    plan = {
        "address": "127.0.0.1",
        "port": ports[0],
        "dashboard_port": ports[1],
        "num_cpus": num_cpus(spec),
        "object_store_bytes": object_store or object_store_size(),
        "temp": str(temp),
        "record": str(home.record_file),
        "ready": str(ready),
    }
    plan_path = home.write_plan(plan)
    with explained(f"cannot write {home.log}", "free some space on its disk"):
        log = home.log.open("w")
    with log:
        head = subprocess.Popen(
            # -P: the folder of head.py holds a secrets.py, which would hide Python's own
            [sys.executable, "-P", str(Path(__file__).with_name("head.py")), str(plan_path)],
            env=head_environment(spec, home, ports),
            cwd=temp,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    versions = own_versions()
    record = Record(
        mark=home.mark,
        session=head.pid,
        port=ports[0],
        dashboard_port=ports[1],
        temp=str(temp),
        root=str(spec.root),
        ray=versions.ray,
        python=versions.python,
        boot=boot_id(),
        started=time.time(),
    )
    home.write_record(record)
    record = replace(record, processes=_await_ready(home, head, ready))
    home.write_record(record)
    return record


def _await_ready(
    home: Home, head: subprocess.Popen[bytes], ready: Path
) -> dict[str, tuple[int, float]]:
    try:
        status = head.wait(START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise HeadError(f"it took longer than {START_TIMEOUT_S:.0f} s", home.log) from None
    if status != 0 or not ready.exists():
        raise HeadError(cause(home.log.read_text(errors="replace")), home.log)
    started = {
        kind: processes.identity(pid) for kind, pid in json.loads(ready.read_text())["pids"].items()
    }
    for kind in WATCHED:
        if started.get(kind) is None:
            raise HeadError(f"its {kind} ended at once", home.log)
    return {kind: found for kind, found in started.items() if found is not None}


@contextlib.contextmanager
def _all_or_nothing(home: Home) -> Iterator[None]:
    """End and remove what was started if the block fails or is interrupted."""
    try:
        with terminable():
            yield
    except BaseException:
        previous = _ignore_interrupts()
        try:
            _clean(home, home.record(), keep_head_state=True)
        finally:
            if previous is not None:
                signal.signal(signal.SIGINT, previous)
        raise


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the block as Ctrl-C does; only a main thread can."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        previous = signal.signal(signal.SIGTERM, leave)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _ignore_interrupts() -> Any:
    try:
        return signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:
        return None


def _clean(home: Home, record: Record | None, keep_head_state: bool) -> list[processes.Ended]:
    session = record.session if record is not None and record.boot == boot_id() else None
    ended = processes.end(home.mark, session)
    home.clear(keep_head_state)
    return ended
