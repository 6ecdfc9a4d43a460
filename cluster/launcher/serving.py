"""Services where Ray's launcher made the cluster: the clients' tokens there, the way to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.launcher import hosts
from cluster.launcher.home import LaunchHome
from cluster.launcher.sites import site_of
from cluster.launcher.startup import SECRETS
from cluster.launcher.tunnel import Tunnel
from cluster.secrets import secrets_folder
from cluster.services import token_file

if TYPE_CHECKING:
    from cluster.spec import Spec


def tokens_there(spec: Spec) -> str:
    """Where replicas find the clients' tokens, on every host."""
    return f"{SECRETS}/{_name(spec)}"


def send_tokens(spec: Spec, report: Callable[[str], None]) -> None:
    """Bring the hosts' file of tokens up to this machine's; replicas look at it every second."""
    site = site_of(spec, LaunchHome(spec))
    content = token_file(spec).read_text(encoding="utf-8")
    found = hosts.put_secret(site.login(), site.addresses(), _name(spec), content)
    for line in found.values():
        report(f"its tokens were not brought up to date: {line}")


def open_services(spec: Spec) -> None:
    """Lead the services' port of this machine to the head's, where they listen to it alone.

    Raises ClusterError where another program has the port here.
    """
    home = LaunchHome(spec)
    record = home.launched()
    if record is not None and spec.services.host in ("127.0.0.1", "localhost"):
        Tunnel(home, site_of(spec, home).login(), record.head).forward(spec.services.port)


def _name(spec: Spec) -> str:
    return token_file(spec).relative_to(secrets_folder()).as_posix()
