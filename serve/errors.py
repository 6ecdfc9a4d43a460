"""What a request is refused with: a status and {"error": {"type", "message", "code"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "too_large_error",
    415: "unsupported_media_error",
    422: "invalid_content_error",
    429: "rate_limit_error",
    499: "client_closed_request",
    500: "internal_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""The `type` of each status; clients tell errors apart by `code`."""


class ServiceError(Exception):
    """A refusal: an HTTP status, a word for programs (`code`) and a sentence for people."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The body of the answer, the shape that OpenAI's clients read."""
        return {"error": {"type": TYPES[self.status], "message": self.message, "code": self.code}}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.code, self.message, self.headers)


def malformed(message: str) -> ServiceError:
    """400: what was sent cannot be read."""
    return ServiceError(400, "malformed", message)


def wrong_content(message: str) -> ServiceError:
    """422: it can be read, but the model cannot answer it."""
    return ServiceError(422, "invalid_content", message)


def too_large(message: str) -> ServiceError:
    """413: more than the model takes."""
    return ServiceError(413, "too_large", message)


def overloaded(retry_after_s: float) -> ServiceError:
    """503: as much is under way as can be answered in time; whole seconds in Retry-After."""
    seconds = max(1, round(retry_after_s))
    return ServiceError(
        503,
        "overloaded",
        f"the service is at its limit; try again in {seconds} s",
        {"Retry-After": str(seconds)},
    )
