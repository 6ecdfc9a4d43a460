"""What `doctor` says of hosts of one's own: can they be used, and who reaches Ray's ports?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cluster.doctor import Finding
from cluster.launcher.home import LaunchHome
from cluster.launcher.hosts import faults, look_at
from cluster.launcher.sites import site_of

if TYPE_CHECKING:
    from cluster.spec import Spec


def host_findings(spec: Spec) -> Iterator[Finding]:
    """All hosts are looked at; nothing on them is changed."""
    home = LaunchHome(spec)
    home.create()
    site = site_of(spec, home)
    hosts = site.addresses()
    looks, silent = look_at(site.login(), hosts)
    lines = [*silent.values(), *faults(looks, spec)]
    for line in lines:
        yield Finding("hosts", "fail", line)
    if not lines:
        yield Finding("hosts", "ok", f"{len(hosts)} hosts answer and have what is needed")
    yield Finding(
        "ports",
        "warn",
        "Ray listens on all interfaces of the hosts; its own ports ask for the token, those of "
        "metrics do not",
        "on each host, unless a firewall stands before them: "
        + "".join(f"iptables -A INPUT -p tcp -s {host} -j ACCEPT; " for host in hosts)
        + "iptables -A INPUT ! -i lo -p tcp --syn --dport 1024:65535 -j REJECT",
    )
