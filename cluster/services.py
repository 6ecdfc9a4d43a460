"""Services put to a cluster and looked at, through Ray's HTTP API alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster import api
from cluster.connection import ClusterError, Connection

PATH = "/api/serve/applications/"
WAIT_S = 600.0


class ServiceNotUpError(ClusterError):
    """A service did not come up; says which, and why."""


@dataclass(frozen=True)
class Application:
    """How an application of Ray Serve is doing."""

    name: str
    status: str
    """NOT_STARTED, DEPLOYING, DEPLOY_FAILED, RUNNING, UNHEALTHY or DELETING."""
    message: str
    route: str
    replicas: int
    """That run."""
    target: int | None
    """That there shall be; None where the load decides."""
    config: dict[str, Any]
    """As it was put."""


def put(connection: Connection, document: Mapping[str, Any]) -> None:
    """Makes the cluster's applications those of the document; others end."""
    api.put(connection, PATH, document)


def applications(connection: Connection) -> dict[str, Application]:
    """All applications by name; none where Serve does not run."""
    return {name: _application(name, found) for name, found in _details(connection).items()}


def current(connection: Connection) -> dict[str, Any]:
    """The document that was put last; without applications where there was none."""
    found = api.get(connection, PATH, timeout_s=30.0)
    configs = [each.get("deployed_app_config") for each in found.get("applications", {}).values()]
    return {"applications": [config for config in configs if config]}


def wait_until_up(
    connection: Connection,
    names: list[str],
    report: Callable[[str], None],
    timeout_s: float = WAIT_S,
) -> None:
    """Waits until all run. Raises ServiceNotUpError with the cause where one does not."""
    deadline, told = time.monotonic() + timeout_s, dict[str, str]()
    while True:
        found = applications(connection)
        states = {name: found[name] for name in names if name in found}
        for name, state in states.items():
            if told.get(name) != state.status and state.status == "RUNNING":
                report(f"{name}: up")
            told[name] = state.status
            if state.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise ServiceNotUpError(f"{name} did not come up: {cause(state.message)}")
        if len(states) == len(names) and all(s.status == "RUNNING" for s in states.values()):
            return
        if time.monotonic() > deadline:
            late = [name for name in names if told.get(name) != "RUNNING"]
            raise ServiceNotUpError(
                f"not up after {timeout_s:.0f} s: {', '.join(late)}; slipway status says why"
            )
        time.sleep(0.3)


def cause(message: str) -> str:
    """The last line of a traceback that says something, without Ray's names for it."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if ("Error: " in line or "Exception: " in line)]
    return errors[-1].partition(": ")[2] if errors else (lines[-1] if lines else "no cause given")


def _details(connection: Connection) -> dict[str, dict[str, Any]]:
    return dict(api.get(connection, PATH, timeout_s=30.0).get("applications", {}))


def _application(name: str, found: Mapping[str, Any]) -> Application:
    deployments = list(found.get("deployments", {}).values())
    replicas = [replica for each in deployments for replica in each.get("replicas", [])]
    targets = [each.get("target_num_replicas") for each in deployments]
    messages = [found.get("message", ""), *(each.get("message", "") for each in deployments)]
    return Application(
        name,
        found["status"],
        "\n".join(text for text in messages if text),
        found.get("route_prefix") or "",
        sum(replica["state"] == "RUNNING" for replica in replicas),
        sum(target for target in targets if target is not None) if targets else None,
        found.get("deployed_app_config") or {},
    )
