"""Notices by webhook, as `notify:` asks for them: Slack, Mattermost, Teams and Discord take these.

The URL is a secret: it is read when it is needed, and is in no message, log or exception.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Literal

from cluster.secrets import SecretError, resolve

if TYPE_CHECKING:
    from cluster.spec import Spec

Event = Literal["failed", "budget", "complete", "promoted"]
TRIES, FIRST_WAIT_S, TIMEOUT_S = 3, 0.5, 5.0


class NoticeError(ValueError):
    """A notice that could not be delivered; says why without saying where to."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, and its body nowhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def notify(
    spec: Spec,
    event: Event,
    text: str,
    details: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Tell who asked for such events; False where nobody did, or where it was not delivered.

    The work that a notice is about never fails by it: `report` hears what went wrong.
    """
    if spec.notify is None or event not in spec.notify.on:
        return False
    said = f"{spec.name}: {text}"
    content = {"text": said, "content": said, "event": event, "name": spec.name}
    try:
        post(resolve(spec.notify.webhook), content | dict(details or {}))
    except (NoticeError, SecretError) as error:
        report(f"warning: the notice was not delivered: {error}")
        return False
    return True


def post(url: str, content: Mapping[str, Any], wait_s: float = FIRST_WAIT_S) -> None:
    """POST JSON, up to three times where the other side may be well again soon.

    Raises NoticeError, which does not hold the URL.
    """
    if not url.startswith(("https://", "http://")):
        raise NoticeError("the secret of notify.webhook is no URL that begins with https://")
    data = json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(_NoRedirects)
    for left in reversed(range(TRIES)):
        try:
            with opener.open(request, timeout=TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            reason = f"the webhook answers {error.code}"
            may_pass = error.code == 429 or error.code >= 500
        except (OSError, HTTPException, ValueError) as error:  # their texts may hold the URL
            cause = getattr(error, "reason", error)
            number = cause.strerror if isinstance(cause, OSError) else None
            reason = f"the webhook cannot be reached: {number or type(cause).__name__}"
            may_pass = isinstance(error, OSError)
        if not left or not may_pass:
            raise NoticeError(reason) from None
        time.sleep(wait_s)
        wait_s *= 2
