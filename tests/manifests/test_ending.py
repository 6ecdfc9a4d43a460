"""What ends a cluster's processes on a host: by their mark, and nothing else."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from cluster.launcher.startup import ending_command
from cluster.spec import load

SPEC = """\
name: acme
cluster:
  provider: {type: onprem, head: 10.77.0.11, user: root, key: ~/.ssh/id, hosts: [{address: n2}]}
  storage: s3://bucket/team
"""


def wait_for_child(process: subprocess.Popen[bytes]) -> Any:
    deadline = time.monotonic() + 10
    while not (children := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return children[0]


def test_only_what_carries_the_mark_is_ended(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(SPEC)
    command = ending_command(load(tmp_path / "cluster.yaml"))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    ours, other, without = (
        subprocess.Popen(["bash", "-c", words], env=environment | more)
        for words, more in (
            ("env -i sleep 61 & wait", {"SLIPWAY_CLUSTER": "acme"}),
            ("sleep 62", {"SLIPWAY_CLUSTER": "acme-2"}),
            ("sleep 63", {}),
        )
    )
    child = wait_for_child(ours)
    threading.Thread(target=ours.wait).start()  # else it stays, ended, and the command waits for it
    try:
        subprocess.run(["bash", "-c", command], env=environment, check=True)
        assert ours.wait(timeout=10) == -15
        assert not child.is_running()  # though it carries no mark
        assert other.poll() is None
        assert without.poll() is None
    finally:
        for process in (ours, other, without):
            process.kill()
            process.wait()
