"""A job's output on the terminal: our lines as they come, one line of progress that moves."""

from __future__ import annotations

import re
import sys
from collections import deque
from typing import Any, Self

from cluster.request import Request

# Ray prefixes what workers print, with colours: (RayTrainWorker pid=123, ip=10.0.0.1) text
PREFIX = re.compile(r"^(?:\x1b\[\d+m)?\((?:[\w.:]+ )?pid=\d+(?:, ip=[\d.]+)?\)(?:\x1b\[0m)? ?")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
MARK = "| "
KEPT_LINES = 40


class Screen:
    """Prints the marked lines of a job; keeps the last of the others for when it fails."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._rest = ""
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._live = sys.stdout.isatty() and not request.json
        self._moving = False

    def feed(self, text: str) -> None:
        """Take a piece of output, which may end in mid-line."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._line(line)

    def _line(self, line: str) -> None:
        plain = COLOUR.sub("", PREFIX.sub("", line)).rstrip("\r")
        if not plain.startswith(MARK):
            self._kept.append(plain)
            return
        shown = plain.removeprefix(MARK)
        if self._live and shown.startswith("step "):
            print(f"\r\x1b[2K{shown}", end="", flush=True)
            self._moving = True
            return
        self._settle()
        self.request.say(shown)

    def _settle(self) -> None:
        """End the moving line, so that the next one starts on its own."""
        if self._moving:
            print()
        self._moving = False

    def show_failure(self, message: str) -> None:
        """Print the end of what was held back."""
        self._settle()
        for line in self._kept:
            self.request.say(f"  {line}")
        if message:
            self.request.say(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._rest:
            self._line(self._rest)
        self._settle()
