"""Commands on other machines by ssh, and what its refusals mean."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECT_TIMEOUT_S = 8
# ssh's own exit code where it got no connection, or lost it.
NO_CONNECTION = 255


@dataclass(frozen=True)
class Login:
    """How the machines of a cluster are reached. Never asks: no terminal may be there."""

    known_hosts: Path
    """Keys of machines seen before, this cluster's own: another key is refused."""
    user: str | None = None
    key: str | None = None
    port: int = 22

    def command(self, host: str, *options: str) -> list[str]:
        """The words that start ssh to a host."""
        settings = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_TIMEOUT_S),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self.known_hosts),
            "LogLevel": "ERROR",
        }
        words = ["ssh", *(word for pair in settings.items() for word in ("-o", "=".join(pair)))]
        words += ["-p", str(self.port), *options]
        if self.key:
            words += ["-o", "IdentitiesOnly=yes", "-i", self.key]
        return [*words, f"{self.user}@{host}" if self.user else host]

    def shown(self, host: str, *options: str) -> str:
        """The same for people to type."""
        words = ["ssh", *options]
        words += ["-p", str(self.port)] if self.port != 22 else []
        words += ["-i", self.key] if self.key else []
        return shlex.join([*words, f"{self.user}@{host}" if self.user else host])


@dataclass(frozen=True)
class Answer:
    """What a command on a host gave."""

    host: str
    code: int
    output: str
    errors: str

    @property
    def connected(self) -> bool:
        """Whether the command ran at all."""
        return self.code != NO_CONNECTION


def run(login: Login, host: str, script: str, timeout_s: float = 60.0) -> Answer:
    """Run a bash script, which goes through standard input: nothing of it shows as arguments."""
    return _finish(host, login.command(host, "-T"), ["bash -s"], script, timeout_s)


def _finish(
    host: str, command: Sequence[str], words: Sequence[str], text: str, timeout_s: float
) -> Answer:
    try:
        done = subprocess.run(
            [*command, *words],
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return Answer(host, NO_CONNECTION, "", f"no answer within {timeout_s:.0f} s")
    except FileNotFoundError:
        return Answer(host, NO_CONNECTION, "", "there is no ssh on this machine")
    return Answer(host, done.returncode, done.stdout, done.stderr)


def refusal(login: Login, host: str, errors: str) -> str:
    """Why ssh gave no connection, and what to do: one line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = lines[-1] if lines else "it said nothing"
    try_it = f"try: {login.shown(host)}"
    for sign, meaning in _SIGNS.items():
        if sign in errors:
            return f"{host}: {meaning.format(port=login.port, try_it=try_it, host=host)}"
    return f"{host}: ssh gives no connection ({said}); {try_it}"


_SIGNS = {
    "Permission denied": "ssh refuses the login; check cluster.provider.user and key, and that the "
    "key is in ~/.ssh/authorized_keys there; {try_it}",
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "it has another host key than last time: a machine "
    "that was set up anew, or not the one you mean; if it is right: slipway down, slipway up",
    "Host key verification failed": "its host key is not the one of last time; if it is right: "
    "slipway down, slipway up",
    "Connection refused": "nothing listens at port {port}: start sshd there, or correct "
    "cluster.provider.port",
    "Could not resolve hostname": "there is no host of this name; correct cluster.provider",
    "No route to host": "it cannot be reached: it is off, or its link is down; {try_it}",
    "Network is unreachable": "it cannot be reached from here: is the VPN up? {try_it}",
    "timed out": "it does not answer: it is off, its link is down, or a firewall drops port "
    "{port}; {try_it}",
    "no answer within": "it takes too long to answer: it is overloaded, or its link is down; "
    "{try_it}",
    "no such identity": "cluster.provider.key names a file that is not there",
    "there is no ssh": "there is no ssh on this machine: apt install openssh-client",
}
