"""A request to end a training: SIGTERM to its driver, whose workers save at their next step.

`slipway stop`, `ray job stop` and the budget's guard all end a job so, and Ray waits for
`cluster.client.STOP_WAIT_S` before it kills.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 45.0
"""Workers that have not left by then are ended with the driver."""


@contextmanager
def heeding() -> Iterator[threading.Event]:
    """An event that SIGTERM sets within the block, instead of ending this process.

    The second one ends it. In another thread than the main one it is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGTERM, previous)

    previous = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, previous)
