"""Waits until a head answers and its hosts have joined, and says why one does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cluster import api
from cluster.connection import ClusterError, Connection
from cluster.launcher import ssh
from cluster.launcher.launching import cause
from cluster.versions import check_versions

Report = Callable[[str], None]
READY_TIMEOUT_S = 120.0
# Long enough for hosts that install all packages over a slow line.
JOIN_TIMEOUT_S = 1800.0
LOGS = "/tmp/ray/session_latest/logs"


def await_head(connection: Connection) -> None:
    """Wait until the head answers. Raises ClusterError where it does not."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            return check_versions(connection)
        except api.UnreachableError as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the head was started, but does not answer: {error}; its logs are in {LOGS} "
                    "there"
                ) from error
            time.sleep(1.0)


def await_hosts(
    connection: Connection, least: int, report: Report, monitor: Callable[[], str]
) -> None:
    """Wait until as many hosts as the pools' least have joined; others may come later.

    ``monitor`` gives the autoscaler's output, which says why a host could not be set up. Raises
    ClusterError with the last cause where they do not come.
    """
    deadline, told = time.monotonic() + JOIN_TIMEOUT_S, -1
    failed: dict[str, str] = {}
    while True:
        rows = api.get(connection, "/api/v0/nodes?detail=1")["data"]["result"]["result"]
        joined = sum(row["state"] == "ALIVE" and not row.get("is_head_node") for row in rows)
        if joined >= least:
            return
        if joined != told:
            report(f"waiting for hosts to join: {joined} of {least}")
            told = joined
        for host in failed_hosts(api.get(connection, "/api/cluster_status")["data"]):
            if host not in failed:
                failed[host] = f"{host} could not be set up: {cause(monitor())}"
                report(f"{failed[host]}; another one is tried, then it again")
        if time.monotonic() > deadline:
            causes = "\n  ".join(failed.values()) or f"on the head, {LOGS}/monitor.out has more"
            raise ClusterError(
                f"{joined} of {least} hosts joined within {JOIN_TIMEOUT_S:.0f} s:\n  {causes}"
            )
        time.sleep(1.0)


def failed_hosts(data: Mapping[str, Any]) -> Iterable[str]:
    """Addresses that the autoscaler gave up lately."""
    status = data.get("clusterStatus")
    report: Mapping[str, Any] = {}
    if isinstance(status, Mapping):
        report = status.get("autoscalerReport") or {}
    return [str(node[0]) for node in report.get("failedNodes") or ()]


def monitor_output(login: ssh.Login, head: str) -> str:
    """The end of what the autoscaler and its setup commands printed."""
    return ssh.run(login, head, f"tail -c 20000 {LOGS}/monitor.out").output
