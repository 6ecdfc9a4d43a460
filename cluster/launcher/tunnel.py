"""The way to a head's dashboard and job API, which listen there to the machine alone: ssh.

One ssh process a cluster, in the background until ``down``, so that a shell with `slipway env` can
use it too. What finds it gone starts it again at the same port.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from cluster.api import UnreachableError
from cluster.connection import ClusterError
from cluster.launcher import ssh
from cluster.launcher.home import LaunchHome
from cluster.machine import are_free, free_ports

DASHBOARD = 8265


class Tunnel:
    """A port of this machine's loopback that leads to the head's dashboard."""

    def __init__(self, home: LaunchHome, login: ssh.Login, head: str) -> None:
        self._home, self._login, self._head = home, login, head

    def open(self) -> str:
        """Its address; started where it is not there. Raises UnreachableError with the cause."""
        control = self._home.control()
        port = self._known_port()
        if port is not None and self._control(control, "check"):
            return _url(port)
        with self._home.lock(lambda line: None):
            port = self._known_port()
            if port is not None and self._control(control, "check"):
                return _url(port)  # another command was quicker
            if port is None or not are_free([port]):
                (port,) = free_ports(1)
            self._start(control, port)
            self._home.write(self._home.port.name, str(port))
        return _url(port)

    def renew(self, error: Exception | None = None) -> None:
        """Start it again after it was lost; one that hangs is ended first.

        It is left alone where the ``error`` says that ssh goes on and nothing listens behind it:
        services that go through it would be cut off because the dashboard is away.
        """
        reason = getattr(error, "reason", error)
        is_behind = isinstance(reason, ConnectionResetError)
        if is_behind and self._control(self._home.control(), "check"):
            return
        self.close()
        self.open()

    def forward(self, port: int) -> None:
        """Lead the same port of this machine to the head's, too: where services listen.

        Raises ClusterError where something else has it here.
        """
        self.open()
        if not self._add(port):  # it says yes where it leads there already
            self.renew()  # perhaps it was lost a moment ago
            if not self._add(port):
                raise ClusterError(
                    f"port {port} of this machine is taken by another program, so that the "
                    "services cannot be there; end it, or name another: services: {port: 8001}"
                )
        self._home.write(self._home.forwards.name, json.dumps(sorted({*self._ports(), port})))

    def close(self) -> None:
        """End it."""
        self._control(self._home.control(), "exit")

    def shown(self) -> str:
        """The same for people to type."""
        forward = f"{DASHBOARD}:127.0.0.1:{DASHBOARD}"
        return self._login.shown(self._head, "-N", "-L", forward)

    def _start(self, control: Path, port: int) -> None:
        control.unlink(missing_ok=True)
        options = ["-f", "-N", "-M", "-S", str(control), "-o", "ExitOnForwardFailure=yes"]
        options += ["-L", f"127.0.0.1:{port}:127.0.0.1:{DASHBOARD}"]
        said = self._home.folder / "tunnel.log"
        try:
            # a file: ssh stays, and would hold the writing end of a pipe
            with said.open("w") as file:
                code = subprocess.run(
                    self._login.command(self._head, *options),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                    timeout=4 * ssh.CONNECT_TIMEOUT_S,
                ).returncode
            errors = said.read_text(errors="replace")
        except subprocess.TimeoutExpired:
            code, errors = ssh.NO_CONNECTION, "no answer within the time"
        except FileNotFoundError:
            code, errors = ssh.NO_CONNECTION, "there is no ssh on this machine"
        if code:
            raise UnreachableError(ssh.refusal(self._login, self._head, errors))
        for each in self._ports():
            self._add(each)

    def _add(self, port: int) -> bool:
        """Ask the tunnel to lead one more port."""
        control = str(self._home.control())
        way = f"127.0.0.1:{port}:127.0.0.1:{port}"
        words = self._login.command(self._head, "-S", control, "-O", "forward", "-L", way)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True)
        return done.returncode == 0

    def _ports(self) -> list[int]:
        try:
            return list(json.loads(self._home.forwards.read_text()))
        except (OSError, ValueError):
            return []

    def _control(self, control: Path, what: str) -> bool:
        if not control.exists():
            return False
        words = self._login.command(self._head, "-S", str(control), "-O", what)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True)
        return done.returncode == 0

    def _known_port(self) -> int | None:
        try:
            return int(self._home.port.read_text())
        except (OSError, ValueError):
            return None


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"
