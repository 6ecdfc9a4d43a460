"""Where a cluster's machines come from: hosts of one's own, or an account of a cloud's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cluster.launcher.home import LaunchHome
    from cluster.launcher.ssh import Login
    from cluster.spec import Spec

Report = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """What ``down`` ended: so many ``what``, and what stays there."""

    count: int
    what: str
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """Host -> its line of cause and remedy."""


class Site(Protocol):
    """What ``up`` and ``down`` ask of the place; all raise ClusterError with cause and remedy."""

    def least(self) -> int:
        """How many machines are to join the head at once."""

    def check(self, is_new: bool, report: Report) -> None:
        """Refuse what cannot become the cluster, before anything is made."""

    def strangers(self) -> str:
        """What is there of a cluster that this machine did not begin; "" where nothing is."""

    def prepare(self, report: Report) -> None:
        """Make what the launcher needs to find: nothing that costs money."""

    def head(self) -> str:
        """The head's address, once the launcher has started it."""

    def addresses(self) -> list[str]:
        """All machines of the cluster that ssh reaches."""

    def login(self) -> Login:
        """How they are reached."""

    def end(self, report: Report) -> Ended:
        """End the cluster on all of them, what an interrupted ``up`` made too."""


def site_of(spec: Spec, home: LaunchHome) -> Site:
    """The place of a spec's machines."""
    if spec.cluster.provider.type == "onprem":
        from cluster.launcher.own_hosts import OwnHosts

        return OwnHosts(spec, home)
    from cluster.launcher.account import Account

    return Account(spec, home)
