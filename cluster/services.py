"""Services put to a cluster and looked at, through Ray's HTTP API alone."""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import api
from cluster.connection import ClusterError, Connection
from cluster.secrets import secrets_folder

if TYPE_CHECKING:
    from cluster.spec import Spec

PATH = "/api/serve/applications/"
IN_USE_S = 3600.0
"""A service that answered nobody for so long is ended by `down` without a question."""
WAIT_S = 600.0
PUT_TIMEOUT_S = 180.0
"""The first one starts Ray Serve."""


class ServiceNotUpError(ClusterError):
    """A service did not come up; says which, and why."""


class NoServiceError(ClusterError):
    """Nothing serves at the address."""


class ServiceRefusedError(ValueError):
    """A service answered with an error; the text is its message."""

    exit_code = 2

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


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
    deployed: float = 0.0
    """When that was, in seconds since 1970."""


def put(connection: Connection, document: Mapping[str, Any]) -> None:
    """Makes the cluster's applications those of the document; others end."""
    for attempts_left in (2, 1, 0):
        try:
            api.put(connection, PATH, document, PUT_TIMEOUT_S)
            return
        except ClusterError as error:  # a proxy that was replaced while Serve started
            if not attempts_left or "actor is dead" not in str(error):
                raise
            time.sleep(2)


def applications(connection: Connection) -> dict[str, Application]:
    """All applications by name; none where Serve does not run."""
    return {name: _application(name, found) for name, found in _details(connection).items()}


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
                raise ServiceNotUpError(
                    f"{name} did not come up: {cause(state.message) or 'no cause given'}"
                )
        if len(states) == len(names) and all(s.status == "RUNNING" for s in states.values()):
            return
        if time.monotonic() > deadline:
            late = [name for name in names if told.get(name) != "RUNNING"]
            raise ServiceNotUpError(
                f"not up after {timeout_s:.0f} s: {', '.join(late)}; slipway status says why"
            )
        time.sleep(0.3)


def describe(connection: Connection, spec: Spec) -> list[dict[str, Any]]:
    """What `status` shows of each service: how it is, and its versions side by side."""
    found = applications(connection)
    if not found:
        return []
    try:
        figures = dict(ask(spec, "/status", timeout_s=10.0)[1])
    except ValueError:  # not up yet, or another's at this address: Ray's own view remains
        figures = {}
    versions, troubles = figures.get("versions", {}), figures.get("trouble", {})
    return [
        {
            "name": name,
            "status": application.status,
            "replicas": application.replicas,
            "target": application.target,
            "url": address(spec) + application.route,
            "message": troubles.get(name) or cause(application.message),
            "versions": {
                version: counts
                for version, counts in versions.items()
                if version.partition("@")[0] == name
            },
        }
        for name, application in sorted(found.items())
    ]


def in_use(connection: Connection, spec: Spec, now: float | None = None) -> list[str]:
    """Services that answered somebody in the last hour, and those that do not say whether.

    One that came up within the hour may yet be called: it counts as in use.
    """
    found = applications(connection)
    if not found:
        return []
    try:
        versions = dict(ask(spec, "/status", timeout_s=10.0)[1]).get("versions", {})
    except ValueError:
        return sorted(found)
    since = (time.time() if now is None else now) - IN_USE_S
    used = {name for name, application in found.items() if application.deployed > since}
    for version, counts in versions.items():
        if (counts.get("last") or 0.0) > since:
            used.add(version.partition("@")[0])
    return sorted(used)


def lines(services: list[dict[str, Any]]) -> list[str]:
    """The same for people."""
    shown = []
    for each in services:
        asleep = each["status"] == "RUNNING" and not each["replicas"]
        state = "asleep" if asleep else each["status"].lower()
        shown.append(f"{each['name']}: {state}, {each['replicas']} replicas, {each['url']}")
        if each["message"] and (each["status"] != "RUNNING" or "@" in each["message"]):
            shown.append(f"  {each['message']}")
        for version, counts in each["versions"].items():
            times = [counts[name] for name in ("p50_ms", "p99_ms")]
            p50, p99 = ["-" if value is None else f"{value:.0f} ms" for value in times]
            shown.append(
                f"  {version}: {counts['requests']} requests, {counts['errors']} errors, "
                f"{counts['refused']} refused, half within {p50}, 99 % within {p99}"
            )
    return shown


def address(spec: Spec) -> str:
    """Where the services answer, as seen from this machine."""
    host = spec.services.host
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{shown}:{spec.services.port}"


def token_file(spec: Spec) -> Path:
    """The file that the clients' tokens are in, whether it exists or not."""
    secret = spec.services.tokens
    return secrets_folder() / (str(secret) if secret else f"{spec.name}-tokens")


def write_tokens(path: Path, name: str) -> None:
    """A file with one client and a fresh token; one that exists stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        return
    path.write_text(
        "# a line a client: NAME TOKEN [LIMIT], such as: alice sw-4f...  60/m\n"
        f"{name} sw-{secrets.token_urlsafe(24)}\n"
    )


def ask(
    spec: Spec,
    path: str,
    body: bytes | None = None,
    media_type: str = "application/json",
    timeout_s: float = 330.0,
) -> tuple[str, Any]:
    """(version, JSON or bytes) that the services answer at `path`, asked with the first token.

    Raises:
        NoServiceError: nothing answers there.
        ServiceRefusedError: it refuses, with its own message.
    """
    headers = {"Content-Type": media_type, "Authorization": f"Bearer {_first_token(spec)}"}
    base = _reached(spec)
    request = urllib.request.Request(base + path, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            content = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            version = response.headers.get("x-model-version", "")
            return version, json.loads(content) if is_json else content
    except urllib.error.HTTPError as error:
        raise ServiceRefusedError(error.code, _message(error)) from error
    except OSError as error:
        raise NoServiceError(f"no service answers at {base}: {error}") from error


def _reached(spec: Spec) -> str:
    """Where this process finds the services: on Kubernetes without a port-forward of kubectl's."""
    if spec.cluster.provider.type != "kubernetes":
        return address(spec)
    from cluster.kubernetes.served import services_url

    try:
        return services_url(spec)
    except ClusterError as error:
        raise NoServiceError(str(error)) from error


def _first_token(spec: Spec) -> str:
    try:
        lines = token_file(spec).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise NoServiceError(f"there are no tokens in {token_file(spec)}") from error
    words = next((found for line in lines if (found := line.partition("#")[0].split())), [""])
    return words[1] if len(words) > 1 else words[0]


def _message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"the service answered {error.code}: {text[:200]}"


def cause(message: str) -> str:
    """The last line of a traceback that says something, without Ray's names for it."""
    said = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in said if ("Error: " in line or "Exception: " in line)]
    return errors[-1].partition(": ")[2] if errors else (said[-1] if said else "")


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
        float(found.get("last_deployed_time_s") or 0.0),
    )
