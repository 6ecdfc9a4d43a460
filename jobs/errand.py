"""Work on storage that goes on behind the training, and again while the store is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from cluster.local_storage import local_error
from cluster.storage import StorageError, UnavailableError
from jobs.session import say

T = TypeVar("T")
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
LOOK_EVERY_S = 0.05
ENDS_WITHIN_S = 5.0
PATIENCE_S = 300.0
"""How long the last checkpoint of a run waits for a store that is away or full."""


class Errand(Generic[T]):
    """Runs ``work`` in a thread until it succeeds or fails for a reason that time will not cure.

    ``trouble``: why it is being tried again, None while nothing is wrong.
    """

    def __init__(self, work: Callable[[], T], what: str) -> None:
        self.trouble: str | None = None
        self._work, self._what = work, what
        self._result: T | None = None
        self._failure: StorageError | None = None
        self._ended, self._given_up = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="errand", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether it has ended, well or badly."""
        return self._ended.is_set()

    def wait(self, timeout_s: float | None) -> None:
        """Wait for the end, at most ``timeout_s``; None: for as long as nothing is in trouble.

        Raises UnavailableError where that is over before the end.
        """
        began = time.monotonic()
        while not self._ended.wait(LOOK_EVERY_S):
            late = timeout_s is not None and time.monotonic() - began > timeout_s
            if late or (timeout_s is None and self.trouble is not None):
                raise UnavailableError(self.trouble or f"{self._what} takes over {timeout_s:.0f} s")

    def result(self) -> T:
        """What the work gave, once it has ended; raises StorageError where it failed."""
        assert self.done, "asked for a result before the end"
        if self._failure is not None:
            raise self._failure
        return self._result  # type: ignore[return-value]

    def give_up(self) -> bool:
        """Try no more; False where it is in the midst of trying, and stays so for a while."""
        self._given_up.set()
        return self._ended.wait(ENDS_WITHIN_S)

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._given_up.is_set():
            try:
                self._result = self._work()
                self.trouble = None
                break
            except UnavailableError as error:
                if self.trouble is None:
                    say(f"warning: {self._what} waits: {error}; trying again, training goes on")
                self.trouble = str(error)
            except StorageError as error:
                self._failure = error
                break
            except OSError as error:
                self._failure = local_error(error, error.filename or "the disk")
                break
            self._given_up.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        self._ended.set()
