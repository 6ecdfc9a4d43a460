"""Where a local cluster keeps what outlives a command: record, token, log, lock, head state."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .connection import ClusterError

Report = Callable[[str], None]

# Ray's sockets are <temp>/session_<time>_<pid>/sockets/<name>; a socket's path has 107 bytes.
LONGEST_TEMP = 107 - len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store_12")


@dataclass(frozen=True)
class Record:
    """What is known of a cluster that was started; `processes` is empty while it starts."""

    mark: str
    session: int
    port: int
    dashboard_port: int
    temp: str
    root: str
    ray: str
    python: str
    boot: str
    started: float
    processes: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Kind of process -> (process id, start time)."""


class Home:
    """The folder of one cluster, `~/.local/state/slipway/<id>`, mode 0700.

    There may be several of one name, which differ in the address of what they are ``at``: the
    storage of local ones, the API of those on Kubernetes.
    """

    def __init__(self, name: str, at: str | None = None) -> None:
        self.id = name
        if at is not None:
            self.id += f"-{hashlib.sha256(at.encode()).hexdigest()[:8]}"
        self.folder = state_folder() / self.id
        # Two users, or one user with two state folders, may run clusters of one id.
        self.mark = f"{self.id}-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"
        self.token = self.folder / "token"
        self.log = self.folder / "head.log"
        self.head_state = self.folder / "gcs"
        self.record_file = self.folder / "cluster.json"

    def create(self) -> None:
        """Make the folder.

        Raises:
            ClusterError: it cannot be made or written to.
        """
        with explained(f"cannot write to {self.folder}", "set XDG_STATE_HOME to another folder"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)

    def record(self) -> Record | None:
        """The cluster that was last started and not ended; None if there is none."""
        try:
            content = json.loads(self.record_file.read_text())
            content["processes"] = {k: (p, t) for k, (p, t) in content["processes"].items()}
            return Record(**content)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None  # of another version of this program: its processes are found by their mark

    def write_record(self, record: Record) -> None:
        """Replace the record at once."""
        self.write("cluster.json", json.dumps(asdict(record), indent=2))

    def write_plan(self, plan: dict[str, Any]) -> Path:
        """Write what `cluster.head` reads; returns its path."""
        return self.write("head.json", json.dumps(plan))

    def write_token(self) -> None:
        """Make a new token: one start of a cluster never accepts another's."""
        self.token.unlink(missing_ok=True)
        descriptor = os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))

    def temp(self) -> Path:
        """A short folder for Ray's sessions, ours alone.

        Raises:
            ClusterError: no temporary folder is short enough, writable and ours.
        """
        refused = []
        for folder in self._temps():
            reason = _make_private(folder)
            if reason is None:
                return folder
            refused.append(f"{folder}: {reason}")
        raise ClusterError(
            "no usable temporary folder (" + "; ".join(refused) + "); "
            "set TMPDIR to a short path that you may write to and that has space"
        )

    def temp_folders(self) -> list[Path]:
        """The temporary folders of ours that exist."""
        return [p for p in self._temps() if p.is_dir() and p.stat().st_uid == os.getuid()]

    def write(self, name: str, content: str) -> Path:
        """Replace a file of the folder at once, readable by its owner alone."""
        draft = self.folder / f"{name}.tmp"
        with explained(f"cannot write to {self.folder}", "free some space on its disk"):
            draft.write_text(content)
            draft.chmod(0o600)
            return draft.replace(self.folder / name)

    def _temps(self) -> list[Path]:
        name = f"sw-{hashlib.sha256(self.mark.encode()).hexdigest()[:10]}"
        return [p / name for p in dict.fromkeys((Path("/tmp"), Path(tempfile.gettempdir())))]

    def clear(self, keep_head_state: bool) -> None:
        """Remove what a cluster left behind."""
        for file in ("cluster.json", "head.json", "keeper.json", "ready.json", "token"):
            (self.folder / file).unlink(missing_ok=True)
        for folder in self.temp_folders():
            shutil.rmtree(folder, ignore_errors=True)
        if not keep_head_state:
            shutil.rmtree(self.head_state, ignore_errors=True)

    @contextmanager
    def lock(self, report: Report, timeout_s: float = 180.0) -> Iterator[None]:
        """Hold the cluster's lock: one start or stop at a time, on this machine.

        Raises:
            ClusterError: another command held it for longer than `timeout_s`.
        """
        self.create()
        with open(self.folder / "lock", "w") as file:
            deadline, told = time.monotonic() + timeout_s, False
            while not _try_lock(file.fileno()):
                if not told:
                    report(f"another command is starting or ending {self.id}: waiting for it")
                    told = True
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"another command has held {self.folder / 'lock'} for {timeout_s:.0f} s; "
                        "see which one (ps aux | grep slipway) and end it"
                    )
                time.sleep(0.1)
            yield


def state_folder() -> Path:
    """`$XDG_STATE_HOME/slipway`, by default `~/.local/state/slipway`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "slipway"


def boot_id() -> str:
    """A name for the time since the machine was booted: process ids mean nothing beyond it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return f"{psutil.boot_time():.0f}"


@contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turn an OSError into a ClusterError that names its cause and the next step."""
    try:
        yield
    except OSError as error:
        raise ClusterError(f"{what}: {error.strerror or error}; {remedy}") from error


def cause(log: str) -> str:
    """The line of a head's log that says why it failed."""
    for sign in ("No space left on device", "Read-only file system", "already occupied"):
        if found := [line for line in log.splitlines() if sign in line]:
            return found[-1].strip()
    errors = re.findall(r"^(?:[\w.]*(?:Error|Exception)): .*$", log, re.MULTILINE)
    if errors:
        return str(errors[-1])
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it wrote no message"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_private(folder: Path) -> str | None:
    """Make the folder ours alone; returns why it cannot be."""
    if len(str(folder)) > LONGEST_TEMP:
        return "too long for Unix sockets"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return "belongs to somebody else"
        folder.chmod(0o700)
        (folder / "probe").write_bytes(b"\0" * 4096)
        (folder / "probe").unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None
