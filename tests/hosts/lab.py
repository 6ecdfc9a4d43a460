"""Fake hosts on this machine, and a laptop among them that `slipway` is typed on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("SLIPWAY_SHARED") or ROOT.parent / "shared")
SCRIPT = SHARED / "lab" / "fake_hosts.sh"
LAPTOP = "10.77.0.100"
PROGRAMS = ("ssh", "ssh-keygen", "rsync", "ip", "nsenter", "unshare", "pgrep")
EXTENSIONS = os.environ.get("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))


def lacking() -> str | None:
    """Why there can be no hosts on this machine; None where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "fake hosts need root on Linux"
    if not SCRIPT.is_file():
        return f"fake hosts need {SCRIPT.name} in ../shared/lab"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or not Path("/usr/sbin/sshd").exists():
        return f"fake hosts need {', '.join(missing) or 'sshd'}: apt install openssh-server rsync"
    made = subprocess.run(["ip", "netns", "add", "slipway-probe"], capture_output=True, text=True)
    if made.returncode:
        return f"fake hosts need network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", "slipway-probe"], check=True)
    return None


def address(number: int) -> str:
    """Of host1, host2, ..."""
    return f"10.77.0.{10 + number}"


class Lab:
    """Hosts, each with an address, processes, a home and an sshd of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.laptop = folder / "laptop" / "home"
        self.project = self.laptop / "project"
        self.environment: dict[str, str] = {}
        """Variables that `slipway` is typed with."""

    def script(self, *words: str) -> None:
        """One command of fake_hosts.sh."""
        path = os.pathsep.join((str(Path(sys.executable).parent), "/usr/local/bin", os.defpath))
        keep = {"KEEP": f"{sys.prefix} {ROOT}", "LAB_PATH": f"{path}:/usr/sbin:/sbin"}
        subprocess.run(
            ["bash", str(SCRIPT), words[0], str(self.folder), *words[1:]],
            env=os.environ | keep,
            check=True,
        )

    def start(self, host: str, *words: str, **options: Any) -> subprocess.Popen[str]:
        """A command on a host, in the background."""
        command = ["bash", str(SCRIPT), "exec", str(self.folder), host, *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, **(pipes | options))

    def ask(self, host: str, script: str, timeout_s: float = 60.0) -> str:
        """What a bash script on a host prints."""
        process = self.start(host, "bash", "-c", script)
        return process.communicate(timeout=timeout_s)[0]

    def slipway(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, typed in the laptop's project."""
        words = shlex.join([sys.executable, str(ROOT / "slipway.py"), *arguments])
        fixed = {"PYTHONPATH": ROOT, "DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": EXTENSIONS}
        environment = " ".join(
            f"{name}={value}" for name, value in (fixed | self.environment).items()
        )
        return self.start("laptop", "bash", "-c", f"cd project && {environment} exec {words}")

    def answer(self, *arguments: str, code: int = 0, timeout_s: float = 300.0) -> Any:
        """What the command prints with --json; checks its exit code."""
        process = self.slipway(*arguments, "--json")
        output, errors = process.communicate(timeout=timeout_s)
        assert process.returncode == code, f"{arguments}: {output}{errors[-3000:]}"
        return json.loads(output)

    def write(self, document: Any, secrets: dict[str, str]) -> None:
        """cluster.yaml and the files of secrets on the laptop."""
        self.project.mkdir(exist_ok=True)
        (self.project / "cluster.yaml").write_text(json.dumps(document))
        for name, value in secrets.items():
            path = self.laptop / ".config" / "slipway" / "secrets" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            path.write_text(value)

    @contextmanager
    def serving(self, program: str) -> Iterator[None]:
        """A Python program that runs on the laptop, once it has printed a line."""
        process = self.start("laptop", sys.executable, "-c", program, stderr=subprocess.DEVNULL)
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def hosts(folder: Path, count: int, kind: type[Lab] = Lab) -> Iterator[Lab]:
    """Hosts for the block; all of their processes end with it."""
    lab = kind(folder)
    lab.script("up", str(count))
    try:
        yield lab
    finally:
        lab.script("down")


def wait_for(what: str, look: Callable[[], Any], timeout_s: float) -> Any:
    """What ``look`` returns once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(1.0)
    return found
