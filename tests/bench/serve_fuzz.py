"""Broken requests never become a 500 of ours, and never cost a replica."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from yarl import URL

from tests.bench.result import Result, Say
from tests.bench.served import processes
from tests.fuzzing import Fuzzed, fuzzed, wrong_answer
from tests.services import DIGITS, FILMS, LABELS, LANGUAGE, VOICE, WORDS, Served, serving

CLAIM = "broken input is refused, and harms nothing"
HOW = (
    "10,000 requests to every route and task, valid ones broken by a seed (cut, bits flipped, odd "
    "types and values, deep, long, other methods and media types), 8 at a time; answers of 5xx "
    "other than 503 and 504, errors in another shape than documented, replicas that died"
)
COUNT, AT_ONCE, SEED = 10_000, 8, 7
MODELS = {
    "labels": (LABELS, "text"),
    "writer": (LANGUAGE, "generation"),
    "digits": (DIGITS, "image"),
    "words": (WORDS, "audio"),
    "voice": (VOICE, "text"),
    "films": (FILMS, "events"),
}


def measure(folder: Path, say: Say, count: int = COUNT) -> Result:
    """Send them all, then look who still lives."""
    models = {name: model | {"serve": {}} for name, (model, _) in MODELS.items()}
    with serving(folder, models) as served:
        before = {process.pid for process in processes(served, "ray::ServeReplica:")}
        began = time.monotonic()
        statuses, wrong = asyncio.run(send_all(served, fuzzed(SEED, count, kinds()), say))
        say(f"{count:,} in {time.monotonic() - began:.0f} s: {dict(sorted(statuses.items()))}")
        died = before - {process.pid for process in processes(served, "ray::ServeReplica:")}
    return Result(
        f"{len(wrong)} wrong answers, {len(died)} replicas dead of {count:,} requests",
        "0, 0",
        not wrong and not died,
        {"statuses": {str(s): n for s, n in sorted(statuses.items())}, "wrong": wrong[:20]},
    )


def kinds() -> dict[str, str]:
    """Model to what it takes."""
    return {name: kind for name, (_, kind) in MODELS.items()}


async def send_all(
    served: Served, requests: Iterator[Fuzzed], say: Say
) -> tuple[Counter[int], list[str]]:
    """So many at a time until there are none left."""
    statuses, wrong = Counter[int](), list[str]()
    headers = {"Authorization": f"Bearer {served.token}"}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:

        async def work() -> None:
            for request in requests:
                status, body = await send(session, served.url, request)
                statuses[status] += 1
                why = wrong_answer(request, status, body)
                if why or not status:
                    wrong.append(f"{request.method} {request.path} {request.body[:80]!r}: {why}")
                    say(wrong[-1][:300])

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return statuses, wrong


async def send(session: aiohttp.ClientSession, url: str, request: Fuzzed) -> tuple[int, bytes]:
    """Status and body; once more where the connection was closed meanwhile, 0 where it fails."""
    where = URL(url + request.path, encoded=True)
    for _ in range(2):
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with session.request(
                request.method, where, data=request.body, headers=request.headers
            ) as answer:
                return answer.status, await answer.read()
    return 0, b""
