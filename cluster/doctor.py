"""What is wrong with this machine, the cluster or the YAML, each finding with its fix.

Nothing here changes anything, and nothing imports torch or Ray.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from . import local, processes
from .connection import ClusterError
from .machine import SHARED_MEMORY

if TYPE_CHECKING:
    from .spec import Spec

Level = Literal["ok", "warn", "fail"]
GIB = 2**30
LOOPBACK = ("127.", "::1", "::ffff:127.")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return asdict(self)


def examine(spec: Spec | None, problem: Exception | None = None) -> list[Finding]:
    """All findings; `problem` is why the YAML could not be loaded, where `spec` is None."""
    findings = [_python(), _compiler(), _ninja(), *_packages(), _memory(), _shared_memory()]
    findings += [_space("temporary folder", Path(tempfile.gettempdir())), _extensions()]
    if spec is None:
        text = str(problem) if problem is not None else "there is none here"
        return [*findings, Finding("YAML", "fail", text, "correct the lines that are named")]
    findings += [Finding("YAML", "ok", f"{spec.name}: {len(spec.models)} models"), _storage(spec)]
    if spec.cluster.provider.type == "local":
        findings += [_token(spec), _cluster(spec), *_ports(spec), _others(spec)]
    else:
        findings.append(_attached(spec))
    if spec.cluster.provider.type == "onprem":
        from .launcher.findings import host_findings

        findings += host_findings(spec)
    return findings


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("Python", "ok", version)
    return Finding("Python", "fail", version, "use Python 3.11, 3.12 or 3.13")


def _compiler() -> Finding:
    wanted = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    for command in filter(None, wanted):
        if path := shutil.which(command):
            return Finding("C++ compiler", "ok", path)
    fix = "apt install g++ (Debian), dnf install gcc-c++ (Fedora), xcode-select --install (macOS)"
    return Finding("C++ compiler", "fail", "none; DeepSpeed compiles its extensions", fix)


def _ninja() -> Finding:
    path = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    if path:
        return Finding("ninja", "ok", path)
    return Finding("ninja", "fail", "not found", f"{sys.executable} -m pip install ninja")


def _packages() -> Iterator[Finding]:
    """Installed versions against constraints.txt, where a checkout has one."""
    constraints = Path(__file__).resolve().parent.parent / "constraints.txt"
    if not constraints.is_file():
        yield Finding("packages", "ok", f"ray {metadata.version('ray')}; no constraints.txt here")
        return
    different = list(_differences(constraints.read_text()))
    if different:
        fix = (
            f"{sys.executable} -m pip install -c {constraints} {' '.join(n for n, _ in different)}"
        )
        detail = ", ".join(text for _, text in different)
        yield Finding("packages", "warn", f"not the tested versions: {detail}", fix)
    else:
        yield Finding("packages", "ok", "the versions of constraints.txt")


def _differences(constraints: str) -> Iterator[tuple[str, str]]:
    for line in constraints.splitlines():
        name, found, version = line.split("#")[0].split(";")[0].strip().partition("==")
        if not found:
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed
        if installed.split("+")[0] != version.strip().split("+")[0]:
            yield name, f"{name} {installed} instead of {version.strip()}"


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    detail = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}"
    if memory.available >= 4 * GIB:
        return Finding("memory", "ok", detail)
    return Finding("memory", "warn", detail, "end other programs; small networks still train")


def _shared_memory() -> Finding:
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", "ok", "no /dev/shm here; Ray uses its temporary folder")
    free = shutil.disk_usage(SHARED_MEMORY).free
    detail = f"{free / GIB:.1f} GiB free in {SHARED_MEMORY}"
    if free >= 0.5 * GIB:
        return Finding("shared memory", "ok", detail)
    return Finding(
        "shared memory", "warn", detail, "docker run --shm-size=2g, or remount it larger"
    )


def _space(name: str, folder: Path) -> Finding:
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    detail = f"{usage.free / GIB:.1f} GiB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Finding(name, "fail", f"{folder} is not writable", f"chmod u+w {folder}")
    # Ray stops using a disk that is fuller than 95 %.
    if usage.free < GIB or usage.free < 0.05 * usage.total:
        return Finding(name, "fail", detail, "free some space: slipway clean removes old runs")
    return Finding(name, "ok" if usage.free > 5 * GIB else "warn", detail)


def _extensions() -> Finding:
    default = Path(sys.prefix) / "torch_extensions"
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR", default))
    if list(folder.rglob("*.so")):
        return Finding("DeepSpeed extensions", "ok", f"compiled in {folder}")
    detail = f"not compiled in {folder}: the first run compiles for two minutes or so"
    return Finding("DeepSpeed extensions", "warn", detail, "make setup")


def _storage(spec: Spec) -> Finding:
    from .storage import open_storage

    url = str(spec.cluster.storage.url)
    try:
        open_storage(spec.cluster.storage, spec.name).check()
    except ValueError as error:
        return Finding("storage", "fail", str(error), "correct cluster.storage")
    if url.startswith("s3://"):
        return Finding("storage", "ok", f"{url} can be read and written")
    return _space("storage", Path(url))


def _token(spec: Spec) -> Finding:
    path = local.home_of(spec).token
    if not path.exists():
        return Finding("token", "ok", "made when the cluster starts")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("token", "fail", f"{path} has mode {mode:04o}", f"chmod 600 {path}")
    return Finding("token", "ok", f"{path}, mode {mode:04o}")


def _cluster(spec: Spec) -> Finding:
    try:
        connection = local.find(spec)
    except ClusterError as error:
        return Finding("cluster", "fail", str(error), "slipway down, then slipway up")
    if connection is not None:
        return Finding("cluster", "ok", f"up at {connection.address}")
    if local.home_of(spec).record() is not None:
        return Finding("cluster", "warn", "it did not end properly", "slipway up starts it anew")
    return Finding("cluster", "ok", "not up; slipway up starts it")


def _ports(spec: Spec) -> Iterator[Finding]:
    ours = processes.owned(local.home_of(spec).mark, local.session_of(spec))
    open_ports = sorted(
        {connection.laddr.port for process in ours for connection in _listening(process)}
    )
    if not open_ports:
        yield Finding("ports", "ok", "nothing of the cluster listens beyond this machine")
        return
    listed = ",".join(map(str, open_ports))
    yield Finding(
        "ports",
        "warn",
        f"reachable from other machines: {listed}; Ray's own ask for the token",
        f"iptables -I INPUT ! -i lo -p tcp -m multiport --dports {listed} -j REJECT",
    )


def _listening(process: psutil.Process) -> list[Any]:
    """What the process listens on beyond the loopback."""
    listing: Callable[[str], list[Any]] = process.net_connections
    try:
        found = listing("inet")
    except psutil.Error:
        return []
    return [
        connection
        for connection in found
        if connection.status == psutil.CONN_LISTEN and not connection.laddr.ip.startswith(LOOPBACK)
    ]


def _others(spec: Spec) -> Finding:
    ours = {process.pid for process in processes.owned(local.home_of(spec).mark)}
    others = [
        process.pid
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "gcs_server" and process.pid not in ours
    ]
    if not others:
        return Finding("other Ray clusters", "ok", "none on this machine")
    detail = f"{len(others)} on this machine (head's process {others}); they are left alone"
    return Finding(
        "other Ray clusters", "ok", f"{detail}; ray stop would end all of them, ours too"
    )


def _attached(spec: Spec) -> Finding:
    from .attach import connect_existing

    try:
        connection = connect_existing(spec)
    except ValueError as error:
        return Finding("cluster", "fail", str(error), "correct cluster.provider")
    if connection is None:
        return Finding("cluster", "ok", "not up; slipway up starts it")
    return Finding("cluster", "ok", f"answers at {connection.api_url}")
