"""When the way to a head is made anew."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest

from cluster.launcher.home import LaunchHome
from cluster.launcher.ssh import Login
from cluster.launcher.tunnel import Tunnel
from cluster.spec import load

SPEC = """
name: acme
cluster: {provider: {type: onprem, head: h, hosts: [a]}, storage: s3://bucket}
"""


@pytest.mark.parametrize(
    ("error", "ssh_lives", "made_anew"),
    [
        (urllib.error.URLError(ConnectionResetError()), True, False),  # the dashboard is away
        (urllib.error.URLError(ConnectionResetError()), False, True),
        (urllib.error.URLError(ConnectionRefusedError()), True, True),
        (TimeoutError(), True, True),  # the link is cut
    ],
)
def test_services_are_not_cut_off_because_the_dashboard_is_away(
    error: Exception,
    ssh_lives: bool,
    made_anew: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "cluster.yaml").write_text(SPEC)
    tunnel = Tunnel(LaunchHome(load(tmp_path / "cluster.yaml")), Login(tmp_path / "known"), "h")
    done: list[str] = []
    monkeypatch.setattr(tunnel, "_control", lambda control, what: ssh_lives)
    monkeypatch.setattr(tunnel, "close", lambda: done.append("closed"))
    monkeypatch.setattr(tunnel, "open", lambda: done.append("opened"))
    tunnel.renew(error)
    assert done == (["closed", "opened"] if made_anew else [])
