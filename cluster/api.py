"""Requests to a cluster's HTTP API, with its token, without importing Ray."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any

from .connection import ClusterError, Connection


class UnreachableError(ClusterError):
    """Nothing answers at the cluster's address; it may come back."""


class MissingError(ClusterError):
    """The cluster answers that there is no such thing."""


def get(connection: Connection, path: str, timeout_s: float = 10.0) -> Any:
    """The JSON document at `path`.

    Raises:
        UnreachableError: nothing answers.
        MissingError: there is no such thing (404).
        ClusterError: the token is refused, or the answer is an error.
    """
    return _request(connection, path, None, timeout_s)


def post(connection: Connection, path: str, timeout_s: float = 30.0) -> Any:
    """The answer to an empty POST to `path`; raises as `get` does."""
    return _request(connection, path, b"{}", timeout_s)


def put(connection: Connection, path: str, document: Any, timeout_s: float = 60.0) -> Any:
    """The answer to a PUT of a JSON document to `path`; raises as `get` does."""
    return _request(connection, path, json.dumps(document).encode(), timeout_s, "PUT")


def _request(
    connection: Connection,
    path: str,
    body: bytes | None,
    timeout_s: float,
    method: str | None = None,
) -> Any:
    url = connection.api_url.rstrip("/") + path
    headers = connection.headers() | {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method=method)
        with _opener(connection).open(request, timeout=timeout_s) as response:
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        raise _refusal(connection, url, error) from error
    except json.JSONDecodeError as error:
        raise ClusterError(
            f"{url} does not answer as a Ray dashboard does; check cluster.provider.address"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        if connection.renew is None:
            raise unreachable(connection, error) from error
        connection.renew(error)
        return _request(replace(connection, renew=None), path, body, timeout_s, method)
    except ValueError as error:
        raise ClusterError(f"{connection.api_url} is not an address: {error}") from error


def unreachable(connection: Connection, error: Exception) -> UnreachableError:
    """The error for an address where nothing answers."""
    reason = getattr(error, "reason", error)
    cause = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
    step = (
        "is it up? slipway status"
        if connection.log is not None
        else "check cluster.provider.address, and that this machine may reach it"
    )
    return UnreachableError(f"no Ray cluster answers at {connection.api_url}: {cause}; {step}")


def is_loopback(url: str) -> bool:
    """Whether the address is on this machine, where no proxy leads."""
    return any(host in url for host in ("//127.0.0.1", "//localhost", "//[::1]"))


def _opener(connection: Connection) -> urllib.request.OpenerDirector:
    if is_loopback(connection.api_url):
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _refusal(connection: Connection, url: str, error: urllib.error.HTTPError) -> ClusterError:
    if error.code in (401, 403):
        has = "refuses the token" if connection.token_path else "asks for a token"
        where = connection.token_path or "cluster.provider.token: {secret: NAME}"
        return ClusterError(f"the cluster at {connection.api_url} {has}; check {where}")
    text = error.read().decode(errors="replace").strip()
    kind = MissingError if error.code == 404 else ClusterError
    last = text.splitlines()[-1] if text else error.reason
    return kind(f"{url} answered {error.code}: {last}")
