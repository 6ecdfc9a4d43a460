"""A job's output on the terminal: our lines as they come, and one line of progress that moves."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from typing import Any, Self

from cluster.request import Request

# Ray prefixes what workers print, with colours: (RayTrainWorker pid=123, ip=10.0.0.1) text
PREFIX = re.compile(r"^(?:\x1b\[\d+m)?\((?:[\w.:]+ )?pid=\d+(?:, ip=[\d.]+)?\)(?:\x1b\[0m)? ?")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
STEP = re.compile(r"step (\d+)/(\d+)  (.*)")
MARK = "| "
KEPT_LINES = 40
# How often progress is printed where it cannot move: a log file, a pipe.
PRINT_EVERY_S = 10.0


def plain(line: str) -> str:
    """Return a line as its process printed it, without Ray's prefix and colours."""
    return COLOUR.sub("", PREFIX.sub("", line)).rstrip("\r")


class Screen:
    """Shows the marked lines of a job; keeps the last of the others for when it fails."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._rest = ""
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._bar = _Bar() if sys.stdout.isatty() and not request.json else None
        self._printed = 0.0
        self._explained = False

    def feed(self, text: str) -> None:
        """Take a piece of output, which may end in mid-line."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._line(plain(line))

    def _line(self, line: str) -> None:
        if not line.startswith(MARK):
            self._kept.append(line)
            return
        shown = line.removeprefix(MARK)
        self._explained = self._explained or shown.startswith("error: ")
        step = STEP.fullmatch(shown)
        if step is None:
            self.tell(shown)
        elif self._bar is not None:
            self._bar.move(int(step[1]), int(step[2]), step[3])
        elif step[1] == step[2] or time.monotonic() - self._printed >= PRINT_EVERY_S:
            self._printed = time.monotonic()
            self.tell(shown)

    def tell(self, text: str) -> None:
        """Print a line of our own, above the progress."""
        if self._bar is None:
            self.request.say(text)
        else:
            self._bar.say(text)

    def show_failure(self, message: str) -> None:
        """Print the end of what was held back, unless the job has said itself why it failed."""
        if self._explained:
            return
        # Ray's message repeats the last lines of the log that stand here already.
        for line in (*self._kept, message.partition("Last available logs")[0].strip()):
            if line:
                self.tell(f"  {line}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._rest:
            self._line(plain(self._rest))
        if self._bar is not None:
            self._bar.close()


class _Bar:
    """rich's progress bar, made at the first step and kept below what is printed."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        steps = TextColumn("step {task.completed:.0f}/{task.total:.0f}")
        self._progress = Progress(steps, BarColumn(bar_width=24), TextColumn("{task.description}"))
        self._task: Any = None

    def move(self, step: int, total: int, text: str) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(text, total=total)
        self._progress.update(self._task, completed=step, total=total, description=text)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()
