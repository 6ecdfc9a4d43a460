"""What this machine keeps of a cluster that Ray's launcher made: record, token, keys, log."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.home import Home
from cluster.launcher.bill import Bill

if TYPE_CHECKING:
    from cluster.spec import Spec


@dataclass(frozen=True)
class LaunchRecord:
    """A cluster that was begun here and not ended."""

    provider: str
    storage: str
    document: str
    """Digest of what the launcher was given."""
    head: str
    """The head's address; empty until it is known."""
    complete: bool
    """Whether the head was started."""
    joined: bool = False
    """Whether as many hosts as the pools' least have joined."""
    place: dict[str, str] = field(default_factory=dict)
    """Where it stands, see `place_of`; empty in records of versions that did not keep it."""
    bill: Bill | None = None
    """What was agreed to; None on hosts of one's own, and in records of earlier versions."""
    started: float = 0.0
    """Seconds since the epoch: tells a start from the one before it."""


def identity(spec: Spec) -> str:
    """The cluster's name on this machine: environments of one file have clusters of their own."""
    return f"{spec.name}-{spec.cluster.provider.type}"


def place_of(spec: Spec) -> dict[str, str]:
    """What of the provider tells one cluster of a name from another: region and profile, or head.

    The machines of another place are out of the file's sight: nothing of it would end them.
    """
    provider = spec.cluster.provider
    found = {key: getattr(provider, key, None) for key in ("region", "profile", "head")}
    return {key: value for key, value in found.items() if value}


class LaunchHome(Home):
    """The folder `~/.local/state/slipway/<name>-<provider>`."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(identity(spec))
        self.document = self.folder / "launcher.yaml"
        self.log = self.folder / "launcher.log"
        self.known_hosts = self.folder / "known_hosts"
        self.key = self.folder / "key"
        """For ssh to machines that are made for the cluster; hosts of one's own have theirs."""
        self.port = self.folder / "port"
        self.forwards = self.folder / "forwards.json"
        self._launch = self.folder / "launch.json"

    def launched(self) -> LaunchRecord | None:
        """What was begun and not ended; None if there is nothing."""
        try:
            content = json.loads(self._launch.read_text())
            bill = content.pop("bill", None)
            return LaunchRecord(**content, bill=bill and Bill(**bill))
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write_launched(self, record: LaunchRecord) -> None:
        """Replace the record at once."""
        self.write(self._launch.name, json.dumps(asdict(record), indent=2))

    def control(self) -> Path:
        """The socket of the tunnel: in a short folder, for a socket's path has 107 bytes."""
        return self.temp() / "ssh"

    def forget(self) -> None:
        """Remove all of it."""
        for folder in (*self.temp_folders(), self.folder):
            shutil.rmtree(folder, ignore_errors=True)
