"""Stands in for an HAProxy that was killed until Serve has started the next one.

Serve notices after three checks that its HAProxy is gone and starts another: 12 s in which every
connection was refused. Serve is therefore given a script in HAProxy's place that starts this guard
and becomes HAProxy. When that process ends without a successor, the guard starts HAProxy from the
same configuration, but for the socket that Serve asks at: there nobody answers, so Serve goes on
to start its own. That one takes over the listening sockets, and the substitute ends.

Run as a file, in an interpreter that imports nothing else:

    python proxy_guard.py PID BINARY FOLDER -db -f CONFIG ...
"""

from __future__ import annotations

import os
import re
import select
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LONGEST_S = 60.0
"""By then Serve has its own again, or is not there any more."""
SCRIPT = """#!/bin/sh
# {binary}, and who stands in for it when it is killed: see {guard}
mkdir -p '{folder}'
takeover="$(cat '{folder}/takeover' 2>/dev/null)"
substitute="${{takeover#-sf }}"
substitute="${{substitute%% *}}"
if [ -n "$substitute" ] && kill -0 "$substitute" 2>/dev/null; then
    # Serve begins with a configuration without replicas, and gives the next within a second
    grep -q '{server}' "$3" || cat '{folder}/last' >"$3"
else
    takeover=
fi
'{python}' -ISs '{guard}' $$ '{binary}' '{folder}' "$@" </dev/null >/dev/null 2>&1 &
exec '{binary}' "$@" $takeover
"""
SERVER = "server SERVE_"
"""In the line of each replica."""
ADMIN = re.compile(r"(?m)^(\s*stats socket )(\S+)")


def write_script(script: Path, folder: Path, binary: str) -> None:
    """The script that Serve is given as its HAProxy; what the guard keeps lies in `folder`."""
    script.parent.mkdir(parents=True, exist_ok=True)
    names = {"binary": binary, "guard": __file__, "python": sys.executable, "folder": folder}
    names["server"] = SERVER
    script.write_text(SCRIPT.format(**names))
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def guard(pid: int, binary: str, arguments: Sequence[str], folder: Path) -> None:
    """Wait for the end of `pid`, and stand in for it where nothing succeeds it."""
    if os.getpgrp() != os.getpid():
        os.setsid()  # Ray ends the process group of an actor with it, and this one outlives it
    await_end(pid)
    text = Path(arguments[arguments.index("-f") + 1]).read_text()
    found = ADMIN.search(text)
    takeover = folder / "takeover"
    if found is None or SERVER not in text or answers(found[2]) or is_there(takeover):
        return  # Serve has replaced it, there was nothing to stand in for, or another does
    own = str(Path(found[2]).with_name("u"))
    config = folder / "substitute"
    (folder / "last").write_text(text)
    config.write_text(ADMIN.sub(rf"\g<1>{own}", text, count=1))
    command = [binary, "-db", "-dR", "-f", str(config)]
    deadline = time.monotonic() + LONGEST_S
    process = subprocess.Popen(command)
    while True:
        takeover.write_text(f"-sf {process.pid} -x {own}")
        try:
            code = process.wait(0.5)
        except subprocess.TimeoutExpired:
            code = None
        if answers(found[2]) or time.monotonic() > deadline:
            break
        if code is not None:
            process = subprocess.Popen(command)
    takeover.unlink(missing_ok=True)
    if not answers(found[2]):
        process.terminate()
    process.wait()


def is_there(takeover: Path) -> bool:
    """Whether the substitute that the file names runs."""
    try:
        os.kill(int(takeover.read_text().split()[1]), 0)
    except (OSError, ValueError, IndexError):
        return False
    return True


def await_end(pid: int) -> None:
    """Return once the process has ended; at once where it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([handle], [], [])
    os.close(handle)


def answers(path: str) -> bool:
    """Whether somebody listens at a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


if __name__ == "__main__":
    guard(int(sys.argv[1]), sys.argv[2], sys.argv[4:], Path(sys.argv[3]))
