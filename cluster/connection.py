"""How a cluster is reached: its addresses and its token, as data and as environment variables."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


class ClusterError(ValueError):
    """A cluster cannot be started, reached or ended; says why and what to do next."""


@dataclass(frozen=True)
class Connection:
    """One reachable cluster."""

    id: str
    """Name of the spec and, for local clusters, a digest of its storage."""
    address: str
    """The head's `host:port`; empty where only the HTTP API is known."""
    api_url: str
    """`http://host:port` of the dashboard, which serves the job and state APIs."""
    token_path: Path | None = None
    """File of mode 0600 that holds the token; None for a cluster without one."""
    python: str = "python"
    """The interpreter that runs a job's entry point there."""
    fresh: bool = False
    """Whether this call started it; False if it was already up."""
    log: Path | None = None
    """The head's start-up log; None for a cluster that others run."""
    job_logs: Path | None = None
    """Folder that holds jobs' output, where this machine has it."""
    extra: Mapping[str, str] = field(default_factory=dict)
    renew: Callable[[Exception], None] | None = None
    """Makes the way there anew where an error says that it was lost; raises UnreachableError."""

    def env(self) -> dict[str, str]:
        """Variables that point a child process, and everything of Ray's in it, at this cluster."""
        variables = {"RAY_API_SERVER_ADDRESS": self.api_url, **self.extra}
        if self.address:
            variables["RAY_ADDRESS"] = self.address
        if self.token_path is not None:
            variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_path)}
        return variables

    def exports(self) -> str:
        """Lines for `eval "$(slipway env)"`."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.env().items()]
        if self.token_path is not None:
            lines.append("unset RAY_AUTH_TOKEN")  # it would win over the file
        return "\n".join(lines)

    def token(self) -> str | None:
        """The token.

        Raises:
            ClusterError: the file is gone, unreadable, or open to other users.
        """
        return None if self.token_path is None else read_token(self.token_path)

    def headers(self) -> dict[str, str]:
        """HTTP headers that authenticate a request."""
        token = self.token()
        return {} if token is None else {"Authorization": f"Bearer {token}"}


def read_token(path: Path) -> str:
    """The token in `path`, refused unless only its owner can read it.

    Raises:
        ClusterError: the file is gone, unreadable, empty, or open to other users.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text().strip()
    except OSError as error:
        raise ClusterError(
            f"cannot read the cluster's token {path}: {error.strerror}; "
            "restart the cluster: slipway down, then slipway up"
        ) from error
    if mode & 0o077:
        raise ClusterError(
            f"the token file {path} is open to other users (mode {mode:04o}); "
            f"chmod 600 {path}, and if others use this machine: slipway down, then slipway up"
        )
    if not token:
        raise ClusterError(f"the token file {path} is empty; slipway down, then slipway up")
    return token
