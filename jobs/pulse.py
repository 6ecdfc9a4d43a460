"""What a worker shows of itself while it works, and what it is asked to do: between threads."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

STEPS = "training"


class Pulse:
    """Written by the thread that trains and read by whoever watches it; leaving the other way."""

    def __init__(self) -> None:
        self.beats = 0
        """Grows with everything that gets done."""
        self.phase = "starting"
        """Steps are expected in the phase ``training`` alone."""
        self.leaving: str | None = None
        """Why the worker is to save at the next step and leave; None while it may stay."""
        self.avoid: tuple[str, ...] = ()
        """Nodes that are to be left with it."""
        self._thread = threading.get_ident()

    def step(self) -> None:
        """A step begins or ends."""
        self.beats += 1
        self.phase = STEPS

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Work that may take longer than a step: nobody counts the seconds meanwhile."""
        before, self.phase = self.phase, what
        try:
            yield
        finally:
            self.phase = before
            self.beats += 1

    def leave(self, reason: str, avoid: Sequence[str] = ()) -> None:
        """Ask the worker to save and leave; the first reason counts."""
        if self.leaving is None:
            self.avoid, self.leaving = tuple(avoid), reason

    def stack(self) -> str:
        """Where the thread that trains is at this moment, as a traceback."""
        frame = sys._current_frames().get(self._thread)
        return "".join(traceback.format_stack(frame)) if frame else "the thread has ended\n"
