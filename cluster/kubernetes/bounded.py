"""The official client with a bound on every answer: an API that is silent is one that is away."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from kubernetes.dynamic import DynamicClient
from urllib3 import BaseHTTPResponse, Retry
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import TimeoutError as SilenceError

CONNECT_S = 10.0
READ_S = 30.0
"""Longer than the API gives an admission webhook by default, which is 10 s."""
RETRIES = 3
BUSY = (429, 503, 504)
"""What an API answers that is overloaded, being replaced, or behind its own store."""


class BoundedClient(DynamicClient):  # type: ignore[misc]
    """A watch may be silent for as long as it is asked for; everything else for `READ_S`."""

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """One request; raises urllib3's errors where nothing answers in time."""
        params["_request_timeout"] = (CONNECT_S, READ_S + (params.get("timeout_seconds") or 0))
        return super().request(method, path, body, **params)


class Retries(Retry):
    """A connection that broke is made again at once; who does not answer is not asked again.

    What changes nothing is asked again of an API that was busy, by its own Retry-After.
    """

    def __init__(self, total: int = RETRIES, **others: Any) -> None:
        busy: dict[str, Any] = {
            "status_forcelist": BUSY,
            "raise_on_status": False,
            "backoff_factor": 0.5,
        }
        super().__init__(total, **busy | others)

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """The retries that are left; raises the error of who does not answer."""
        if isinstance(error, SilenceError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)
