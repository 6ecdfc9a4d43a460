"""What every verb is asked with, how it answers, and which exit code an error becomes."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from cluster.spec import Spec

DONE, FAILED, WRONG, REFUSED, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 130
ELSEWHERE = -1
"""What a verb returns that leaves the request to another function."""


class WrongRequestError(ValueError):
    """What was asked cannot be done as asked: exit code 2."""

    exit_code = WRONG


class TimedOutError(BaseException):
    """``--timeout`` passed before the work was done: exit code 4.

    Like Ctrl-C it may come anywhere, and no handler of ordinary errors may take it for one.
    """

    exit_code = TIMED_OUT


@dataclass(frozen=True)
class Request:
    """The options that all verbs share."""

    file: Path = Path("cluster.yaml")
    environment: str | None = None
    overrides: tuple[str, ...] = ()
    json: bool = False
    yes: bool = False
    detach: bool = False
    timeout_s: float | None = None
    ephemeral: bool = False
    """Whether each stage gets a cluster of its own, which ends with it."""

    def spec(self) -> Spec:
        """Load the spec; raises SpecError."""
        from cluster.spec import load

        return load(self.file, self.environment, self.overrides)

    def say(self, text: str) -> None:
        """Tell a person: on standard output, or beside it where that holds JSON."""
        print(text, file=sys.stderr if self.json else sys.stdout, flush=True)

    def answer(self, document: dict[str, Any], text: str = "") -> None:
        """Print the verb's result: one JSON document with ``--json``, else ``text``."""
        if self.json:
            print(json.dumps(document, indent=2, default=str))
        elif text:
            print(text)

    def confirm(self, question: str) -> None:
        """Ask before what spends money or ends a service; returns where the answer is yes.

        Raises WrongRequestError where it is no, or where there is nobody to ask.
        """
        if self.yes:
            return
        if self.json or not sys.stdin.isatty():
            raise WrongRequestError(f"{question} There is nobody to ask; -y says yes")
        print(f"{question} [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise WrongRequestError("nothing was started")

    def table(self, columns: list[str], rows: list[list[str]], empty: str) -> None:
        """Print rows for people; nothing with ``--json``."""
        if self.json:
            return
        if not rows:
            print(empty)
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*map(Text, row))  # Text: brackets in names are no markup
        # Piped output is as wide as its longest line, so that nothing is cut or wrapped.
        if sys.stdout.isatty():
            Console(highlight=False).print(table)
            return
        written = io.StringIO()
        Console(width=200, highlight=False, file=written).print(table)
        print("\n".join(line.rstrip() for line in written.getvalue().splitlines()))


@contextmanager
def bounded(timeout_s: float | None) -> Iterator[None]:
    """Raise TimedOutError in this block once ``timeout_s`` have passed; main thread only."""
    if timeout_s is None:
        yield
        return

    def ring(number: int, frame: object) -> NoReturn:
        raise TimedOutError(
            f"not done after {timeout_s:g} s; a job that was started goes on: slipway status"
        )

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def fail(error: BaseException, as_json: bool) -> NoReturn:
    """Print an error and exit with its class's ``exit_code``, 1 where it has none."""
    from cluster.spec import SpecError

    if isinstance(error, SpecError):
        entries = [
            {"message": p.message, "file": p.file or None, "line": p.line, "path": p.path}
            for p in error.problems
        ]
    else:
        entries = [{"message": str(error), "file": None, "line": None, "path": None}]
    if as_json:
        print(json.dumps({"errors": entries}, indent=2))
    else:
        prefix = "" if isinstance(error, SpecError) else "error: "
        print(f"{prefix}{error}", file=sys.stderr)
    sys.exit(getattr(error, "exit_code", FAILED))
