"""Follow a job's output until it ends, across lost connections."""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from . import api, client
from .connection import ClusterError, Connection


def follow(
    connection: Connection,
    name: str,
    patience_s: float = 60.0,
    is_local_end: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """The job's output from its beginning, in pieces, until it ends.

    A lost connection is made again for up to `patience_s`, and nothing is yielded twice.
    `is_local_end` is asked after every loss: where it holds, following ends at once.

    Raises:
        UnreachableError: the connection stayed lost.
        ClusterError: there is no such job.
    """
    seen, lost_at = 0, None
    while True:
        offset = 0
        try:
            for piece in (_tail_file if connection.job_logs else _tail)(connection, name):
                fresh = piece[max(0, seen - offset) :]
                offset += len(piece)
                lost_at = None
                if fresh:
                    seen += len(fresh)
                    yield fresh
            state = client.job_state(connection, name)
            if state is None:
                raise ClusterError(f"the cluster knows no job {name}; slipway runs lists all")
            if state.is_ended:
                return
        except api.UnreachableError:
            now = time.monotonic()
            lost_at = now if lost_at is None else lost_at
            if is_local_end() or now - lost_at > patience_s:
                raise
        time.sleep(0.5)


def _tail_file(connection: Connection, name: str) -> Iterator[str]:
    """The output from the file itself: at once, where Ray's API takes seconds."""
    assert connection.job_logs is not None
    path = connection.job_logs / f"job-driver-{name}.log"
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    position, ended = 0, False
    while True:
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                content = file.read()
            position += len(content)
            if content:
                yield decoder.decode(content)
        if ended:
            return
        state = client.job_state(connection, name)
        ended = state is None or state.is_ended  # then once more: it may have written since
        if not ended:
            time.sleep(0.2)


def _tail(connection: Connection, name: str) -> Iterator[str]:
    """One connection's worth of output, from the beginning; raises UnreachableError if cut."""
    import aiohttp

    if client.job_state(connection, name) is None:
        raise ClusterError(f"the cluster knows no job {name}; slipway runs lists all")
    loop = asyncio.new_event_loop()
    pieces: AsyncIterator[str] = client.job_client(connection).tail_job_logs(name)
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(pieces))
            except StopAsyncIteration:
                return
            except (RuntimeError, OSError, aiohttp.ClientError) as error:
                raise api.unreachable(connection, error) from error
    finally:
        with_close: Any = pieces
        loop.run_until_complete(with_close.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
