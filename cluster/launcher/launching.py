"""Runs ``ray up`` in a process of its own, and reads what it prints: steps, and why it failed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cluster.connection import ClusterError
from cluster.home import explained
from cluster.launcher.onprem import PROVIDER
from cluster.local import terminable

if TYPE_CHECKING:
    from cluster.launcher.home import LaunchHome
    from cluster.spec import Spec

Report = Callable[[str], None]
STEPS = {
    "Acquiring an up-to-date head node": "getting the head's machine",
    "Waiting for SSH to become available": "head: waiting for ssh",
    "Processing file mounts": "head: sending files",
    "Running setup commands": "head: installing what is not there yet (minutes, the first time)",
    "Starting the Ray runtime": "head: starting Ray",
}
COLOUR = re.compile(r"\x1b\[[\d;]*m")
# What is not worth a line where something else is.
NOISE = ("See above for", "Shared connection to", "Failed to setup head node", "Connection to ")


def launch(spec: Spec, home: LaunchHome, report: Report) -> None:
    """Start the head; it starts the workers by itself. Raises ClusterError with the cause."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "up", str(home.document)]
    command += ["--yes", "--no-config-cache", "--log-style=pretty", "--log-color=false"]
    with (
        explained(f"cannot write {home.log}", "free some space on its disk"),
        home.log.open("w") as log,
    ):
        # what an interrupted one knew of its head is not believed
        (home.folder / "hosts.json").unlink(missing_ok=True)
        process = subprocess.Popen(
            command,
            env=environment(spec, home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            with terminable():
                for step in steps(_kept(process.stdout, log.write)):
                    report(step)
                code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    if code:
        said = cause(home.log.read_text(errors="replace"))
        raise ClusterError(
            f"{spec.name} did not start: {said}\nits log: {home.log}; the next slipway up finishes "
            "it, slipway down ends what there is"
        )


def environment(spec: Spec, home: LaunchHome) -> dict[str, str]:
    """The launcher's: its files in our folder, and no other Ray's address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    found = kept | {
        "PYTHONUNBUFFERED": "1",
        "RAY_TMPDIR": str(home.folder),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    provider = spec.cluster.provider
    if provider.type == "onprem":
        path = os.pathsep.join(filter(None, (str(PROVIDER.parent), kept.get("PYTHONPATH", ""))))
        found |= {"PYTHONPATH": path, "RAY_UP_enable_autoscaler_v2": "0"}
        found["SLIPWAY_HOSTS"] = str(home.folder / "hosts.json")
    if provider.type == "aws" and provider.profile:
        found["AWS_PROFILE"] = provider.profile
    return found


def steps(lines: Iterable[str]) -> Iterable[str]:
    """What people are told of the launcher's output: each step once."""
    told = set()
    for line in lines:
        for sign, step in STEPS.items():
            if sign in line and step not in told:
                told.add(step)
                yield step


def cause(log: str) -> str:
    """The line of the launcher's output that says why it failed."""
    lines = [COLOUR.sub("", line).strip(" !\r") for line in log.splitlines()]
    lines = [line for line in lines if line and not any(sign in line for sign in NOISE)]
    for sign in ("Error message:", "ERROR", "rror:", "rror "):
        found = [line for line in lines if sign in line]
        if found:
            return found[-1].partition("Error message: ")[2] or found[-1]
    return lines[-1] if lines else "it wrote no message"


def _kept(lines: Iterable[str], write: Callable[[str], object]) -> Iterable[str]:
    for line in lines:
        write(line)
        yield line
