"""Load on an HTTP service from a process of its own: python -m tests.bench.pressure < plan.json.

A closed loop (each connection asks, waits, asks again) or, with "rate", an open one (requests
leave on time whether others were answered or not). Plain sockets: the client shall not take the
processor from what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0
MOST_BODIES = 2000
RETRY_S = 0.5


@dataclass(frozen=True)
class Plan:
    """What is sent; the bodies in turn."""

    url: str
    bodies: list[str]
    """In base64."""
    connections: int = 1
    seconds: float = 10.0
    """Until so long after the start; what is under way then is waited for."""
    headers: dict[str, str] = field(default_factory=dict)
    rate: float = 0.0
    """Requests a second, over as many connections as that takes; 0: a closed loop."""
    retry: bool = False
    """Once more half a second after a connection error or 5xx, as OpenAI's client does."""
    most: int = 0
    """Requests in all; 0: no bound."""


@dataclass
class Seen:
    """What came back."""

    sent: list[float] = field(default_factory=list)
    """Seconds after the start, of requests answered with 200."""
    ms: list[float] = field(default_factory=list)
    """Of these."""
    refused_ms: list[float] = field(default_factory=list)
    """Of those answered with 503."""
    statuses: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """Why requests failed, retries used up."""
    retried: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """Of "BODY VERSION DIGEST": which body of the plan, which version answered, and what."""
    bodies: dict[str, str] = field(default_factory=dict)
    """What was answered, by digest; the first MOST_BODIES."""
    seconds: float = 0.0

    def json(self, digest: str) -> Any:
        """An answer of `answers` by its digest."""
        return json.loads(self.bodies[digest])

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.ms) / self.seconds

    def quantile(self, share: float) -> float:
        """Of the latencies, in ms."""
        return quantile(self.ms, share)


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest rank; not a number where there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def press(plan: Plan) -> Seen:
    """The load of a plan to its end, from a process of its own."""
    with _begun(plan) as child:
        return _seen(child.communicate()[0])


@contextmanager
def pressing(plan: Plan) -> Iterator[list[Seen]]:
    """Load while the block runs; at its end the list holds what came back."""
    found: list[Seen] = []
    with _begun(plan) as child:
        yield found
        child.send_signal(signal.SIGTERM)
        found.append(_seen(child.communicate()[0]))


@contextmanager
def _begun(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench.pressure"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as child:
        assert child.stdin is not None
        child.stdin.write(json.dumps(asdict(plan)))
        child.stdin.close()
        child.stdin = None
        try:
            yield child
        finally:
            child.kill()


def _seen(output: str) -> Seen:
    given = json.loads(output)
    given["statuses"], given["answers"] = Counter(given["statuses"]), Counter(given["answers"])
    return Seen(**given)


def encoded(*bodies: Any) -> list[str]:
    """Bodies of a plan: bytes as they are, all else as JSON."""
    raw = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    return [base64.b64encode(body).decode() for body in raw]


class Client:
    """Sends the requests of a plan."""

    def __init__(self, plan: Plan) -> None:
        where = urlsplit(plan.url)
        self.plan, self.host, self.port = plan, where.hostname or "", where.port or 80
        lines = [f"POST {where.path} HTTP/1.1", f"Host: {where.netloc}"]
        lines += [f"{name}: {value}" for name, value in plan.headers.items()]
        self.requests = []
        for body in map(base64.b64decode, plan.bodies):
            head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
            self.requests.append(head.encode() + body)
        self.seen = Seen()
        self.numbers = count()
        self.free: list[Any] = []
        self.until = plan.seconds

    async def run(self) -> Seen:
        self.began = time.perf_counter()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
        if self.plan.rate:
            await self._on_time()
        else:
            await asyncio.gather(*(self._loop() for _ in range(self.plan.connections)))
        self.seen.seconds = time.perf_counter() - self.began
        return self.seen

    def _end(self) -> None:
        self.until = 0.0

    def _now(self) -> float:
        return time.perf_counter() - self.began

    async def _loop(self) -> None:
        link = None
        while self._now() < self.until:
            number = next(self.numbers)
            if self.plan.most and number >= self.plan.most:
                break
            link = await self._ask(link, number, self._now())
        if link is not None:
            link[1].close()

    async def _on_time(self) -> None:
        tasks = set()
        for number in self.numbers:
            due = number / self.plan.rate
            if due >= self.until:
                break
            await asyncio.sleep(max(0.0, due - self._now()))
            task = asyncio.create_task(self._once(number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _once(self, number: int, due: float) -> None:
        link = await self._ask(self.free.pop() if self.free else None, number, due)
        if link is not None:
            self.free.append(link)

    async def _ask(self, link: Any, number: int, due: float) -> Any:
        """One request over an open connection, or a new one; the connection, if it lives."""
        for tries_left in (1, 0) if self.plan.retry else (0,):
            status, why = 0, ""
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    link = link or await asyncio.open_connection(self.host, self.port)
                    status, head, body = await self._exchange(link, number)
                if b"connection: close" in head:
                    link[1].close()
                    link = None
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                why = type(error).__name__
                if link is not None:
                    link[1].close()
                link = None
            if status and status < 500:
                break
            if tries_left:
                self.seen.retried += 1
                await asyncio.sleep(RETRY_S)
        self._count(number, due, status, why, *((head, body) if status else (b"", b"")))
        return link

    async def _exchange(self, link: Any, number: int) -> tuple[int, bytes, bytes]:
        reader, writer = link
        writer.write(self.requests[number % len(self.requests)])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = _value(head, b"content-length")
        if length:
            return int(head[9:12]), head, await reader.readexactly(int(length))
        body = b""
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
        return int(head[9:12]), head, body

    def _count(
        self, number: int, due: float, status: int, why: str, head: bytes, body: bytes
    ) -> None:
        ms, seen = (self._now() - due) * 1e3, self.seen
        seen.statuses[str(status)] += 1
        if status == 200:
            seen.sent.append(round(due, 4))
            seen.ms.append(round(ms, 3))
            version = _value(head, b"x-model-version").decode()
            digest = hashlib.blake2b(body, digest_size=6).hexdigest()
            if len(seen.bodies) < MOST_BODIES:
                seen.bodies.setdefault(digest, body.decode(errors="replace"))
            seen.answers[f"{number % len(self.requests)} {version} {digest}"] += 1
        elif status == 503:
            seen.refused_ms.append(round(ms, 3))
        if status == 0 or status >= 500:
            at = f"{due:.1f} s: {why or status} {body[:200].decode(errors='replace')}"
            seen.errors += [at] if len(seen.errors) < 50 else []


def _value(head: bytes, name: bytes) -> bytes:
    """A header's value, the head in lower case."""
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    return head[start : head.index(b"\r\n", start)].strip()


def main() -> None:
    """Read a plan, send it, print what was seen."""
    plan = Plan(**json.load(sys.stdin))
    try:
        import uvloop

        seen = uvloop.run(Client(plan).run())
    except ImportError:
        seen = asyncio.run(Client(plan).run())
    json.dump(vars(seen), sys.stdout)


if __name__ == "__main__":
    main()
