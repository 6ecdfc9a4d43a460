"""Who may ask: one named token a client, in a file that only its owner can read.

A line a client: `NAME TOKEN [LIMIT]`, the limit as in `60/m` or `5/s`; `#` starts a comment. The
file is looked at again once it has changed, so that clients come and go without a restart.
"""

from __future__ import annotations

import hashlib
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster.secrets import is_open
from serve.errors import ServiceError

LOOK_AGAIN_S = 1.0
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class TokenFileError(ValueError):
    """The file of tokens cannot be used; the text says why and what to do."""

    exit_code = 2


@dataclass
class Client:
    """One who may ask."""

    name: str
    limit: tuple[int, float] | None = None
    """Requests per so many seconds."""
    _allowance: float = field(default=-1.0, repr=False)
    _last: float = field(default=0.0, repr=False)

    def admit(self, now: float) -> None:
        """Counts a request; 429 where the client's own limit is used up (a token bucket)."""
        if self.limit is None:
            return
        count, seconds = self.limit
        if self._allowance < 0:
            self._allowance = float(count)
        elapsed = max(0.0, now - self._last)
        self._allowance = min(float(count), self._allowance + elapsed * count / seconds)
        self._last = now
        if self._allowance < 1:
            wait_s = max(1, round((1 - self._allowance) * seconds / count + 0.5))
            raise ServiceError(
                429,
                "rate_limited",
                f"{self.name} may ask {count} times in {seconds:g} s; try again in {wait_s} s",
                {"Retry-After": str(wait_s)},
            )
        self._allowance -= 1


class Tokens:
    """The clients of a file; a file that breaks while the service runs leaves them as they were."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._looked = clock()
        self._stamp = _stamp(path)
        self._clients = read_clients(path)
        self.trouble: str | None = None

    def client(self, authorization: str | None) -> Client:
        """The client of an `Authorization` header, counted; 401 or 429 otherwise."""
        self._refresh()
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("a token is needed: Authorization: Bearer TOKEN")
        client = self._clients.get(_digest(token.strip()))
        if client is None:
            raise _unauthorized("this token is not known")
        client.admit(self._clock())
        return client

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked < LOOK_AGAIN_S:
            return
        self._looked = now
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            fresh = read_clients(self.path)
        except TokenFileError as error:
            self.trouble = str(error)
            return
        for digest, client in fresh.items():  # a limit that is being used up stays so
            known = self._clients.get(digest)
            if known is not None and known.limit == client.limit:
                fresh[digest] = known
        self._clients, self.trouble = fresh, None


def read_clients(path: Path) -> dict[str, Client]:
    """SHA-256 of the token -> client; raises TokenFileError, which never holds a token."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if is_open(mode):
            raise TokenFileError(f"others can read {path} (mode {mode:04o}); run: chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TokenFileError(f"cannot read the tokens in {path}: {cause}") from None
    clients: dict[str, Client] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if words:
            digest, client = _read_line(words, f"{path}:{number}")
            if digest in clients or client.name in {each.name for each in clients.values()}:
                raise TokenFileError(f"{path}:{number}: this name or token is there already")
            clients[digest] = client
    if not clients:
        raise TokenFileError(f"{path} names no client; write a line: NAME TOKEN")
    return clients


def first_token(path: Path) -> str:
    """The token of the first client, for the address that `serve` prints."""
    read_clients(path)
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.partition("#")[0].split()
        if words:
            return words[1] if len(words) > 1 else words[0]
    raise AssertionError("read_clients found one")


def _read_line(words: list[str], place: str) -> tuple[str, Client]:
    if len(words) == 1:  # a secret that holds nothing but one token
        return _digest(words[0]), Client("default")
    if len(words) > 3 or not re.fullmatch(r"[\w.@-]{1,64}", words[0]):
        raise TokenFileError(f"{place}: a line is NAME TOKEN [LIMIT]")
    return _digest(words[1]), Client(words[0], _limit(words[2], place) if words[2:] else None)


def _limit(text: str, place: str) -> tuple[int, float]:
    match = re.fullmatch(r"([1-9]\d{0,8})/([smh])", text)
    if match is None:
        raise TokenFileError(f"{place}: a limit is a number a second, minute or hour: 60/m")
    return int(match[1]), SECONDS[match[2]]


def _digest(token: str) -> str:
    # Looked up by digest: how long a comparison takes then says nothing of the tokens.
    return hashlib.sha256(token.encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_mode


def _unauthorized(message: str) -> ServiceError:
    return ServiceError(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})
