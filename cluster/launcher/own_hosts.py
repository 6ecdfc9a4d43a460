"""Hosts of one's own as the place of a cluster: they are there, and stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.connection import ClusterError
from cluster.launcher import hosts, ssh
from cluster.launcher.onprem import least_hosts
from cluster.launcher.sites import Ended, Report

if TYPE_CHECKING:
    from cluster.launcher.home import LaunchHome
    from cluster.spec import Spec


class OwnHosts:
    """`provider: onprem`; see `cluster.launcher.sites.Site`."""

    def __init__(self, spec: Spec, home: LaunchHome) -> None:
        provider = spec.cluster.provider
        assert provider.type == "onprem"
        self._spec, self._home, self._provider = spec, home, provider

    def least(self) -> int:
        return least_hosts(self._spec, self._provider)

    def check(self, is_new: bool, report: Report) -> None:
        """Refuse hosts that cannot be used, all at once; of spare ones that are off only tell."""
        report(f"looking at {len(self.addresses())} hosts")
        looks, silent = hosts.look_at(self.login(), self.addresses())
        found = hosts.faults(looks, self._spec)
        there = sum(host.address not in silent for host in self._provider.hosts)
        if self._provider.head in silent or there < self.least():
            found += silent.values()
        elif silent:
            for line in silent.values():
                report(f"left out for now: {line}")
        if found:
            raise ClusterError("hosts that cannot be used:\n  " + "\n  ".join(found))

    def strangers(self) -> str:
        head, name = self._provider.head, self._spec.name
        looks, silent = hosts.look_at(self.login(), [head])
        if not looks:
            return silent[head]
        if name not in looks[0].clusters:
            return ""
        return f"{head} holds a cluster {name} that this machine did not begin, without its token"

    def prepare(self, report: Report) -> None:
        """Nothing: the launcher's own setup is all that hosts need."""

    def head(self) -> str:
        return self._provider.head

    def addresses(self) -> list[str]:
        others = (host.address for host in self._provider.hosts)
        return list(dict.fromkeys([self._provider.head, *others]))

    def login(self) -> ssh.Login:
        wanted = self._provider
        return ssh.Login(self._home.known_hosts, wanted.user, wanted.key, wanted.port)

    def end(self, report: Report) -> Ended:
        count, unreachable = hosts.end(self.login(), self._spec, self._provider)
        if self._provider.head in unreachable:
            raise ClusterError(
                f"{self._spec.name} may still be up: {unreachable[self._provider.head]}\n"
                "down again once the head can be reached"
            )
        what = "processes ended; storage stays, and so do the packages in ~/.slipway of its hosts"
        return Ended(count, what, unreachable)
