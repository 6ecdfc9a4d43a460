"""Starts again what ends of a head while its raylet lives.

Training and services do not need `gcs_server` and the dashboard to go on, but nothing new starts
without them, and Ray's processes give up once the first has been away for a minute. Ray starts
neither again: this process, in the head's session, does, with the command that they had. Where the
raylet has ended there is nothing to keep, and this process ends too.

Run as a file by `cluster.head`: python -P keeper.py PLAN, a JSON file with `record` (the record of
a local cluster, told of every new process; null elsewhere), `raylet` (its process id) and `kept`:
kind -> {"pid", "command", "port"}; a new process counts once it answers there.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

LOOK_S = 0.5
"""Also waited before a start: who kills a head's processes kills one after the other."""
LONGEST_S = 20.0
"""Between two starts of what ends at once, again and again."""
STEADY_S = 60.0
"""What has run for so long did not end at once."""


class Kept:
    """A process, and how to start another in its place."""

    def __init__(self, command: list[str], process: psutil.Process, port: int | None) -> None:
        self.command, self.process, self.port = command, process, port
        self.is_new = False
        """Whether nobody was told of it yet."""
        self._started = self._ended = time.monotonic()
        self._wait_s = LOOK_S

    def is_due(self) -> bool:
        """Whether it has ended, and long enough ago."""
        if runs(self.process):
            self._ended = time.monotonic()
            return False
        return time.monotonic() - self._ended >= self._wait_s

    def start(self) -> None:
        """Another one; later each time where the last one ended soon."""
        is_steady = self._ended - self._started > STEADY_S
        self._wait_s = LOOK_S if is_steady else min(LONGEST_S, 2 * self._wait_s)
        self._started = self._ended = time.monotonic()
        self.process = psutil.Popen(self.command, stdin=subprocess.DEVNULL)
        self.is_new = True

    def answers(self) -> bool:
        """Whether it listens; one without a port does from the start."""
        if self.port is None:
            return True
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True


def keep(plan: dict[str, Any]) -> None:
    """Watch until the raylet ends."""
    raylet = psutil.Process(plan["raylet"])
    record = Path(plan["record"]) if plan["record"] else None
    kept = {
        kind: Kept(each["command"], psutil.Process(each["pid"]), each["port"])
        for kind, each in plan["kept"].items()
    }
    while True:
        due = [kind for kind, each in kept.items() if each.is_due()]
        if not runs(raylet):
            return
        for kind in due:
            print(f"{kind} has ended: starting another", flush=True)
            kept[kind].start()
        for kind, each in kept.items():
            if each.is_new and each.answers():
                each.is_new = record is not None and not tell(record, kind, each.process)
        time.sleep(LOOK_S)


def runs(process: psutil.Process) -> bool:
    """As `cluster.processes.is_running`: a file that runs by itself imports nothing of ours."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def tell(record: Path, kind: str, process: psutil.Process) -> bool:
    """Put a new process into the cluster's record: commands take no other for the head's."""
    try:
        content = json.loads(record.read_text())
        content["processes"][kind] = [process.pid, process.create_time()]
    except (OSError, ValueError, KeyError, psutil.Error):
        return False  # the cluster is being ended; or this one has ended, too, and another follows
    draft = record.with_suffix(".kept")
    draft.write_text(json.dumps(content, indent=2))
    draft.chmod(0o600)
    draft.replace(record)
    return True


if __name__ == "__main__":
    keep(json.loads(Path(sys.argv[1]).read_text()))
