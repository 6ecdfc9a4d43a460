"""What a sweep shows while it runs: its table, line by line, and a report that is renewed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cluster.spec import ModelSpec, Money
from jobs.runs import Run
from jobs.session import say
from tune.cost import Pace
from tune.history import History
from tune.results import write_results
from tune.room import Room
from tune.rungs import Leg
from tune.table import heading, line

REPORT_EVERY_S = 300.0


@dataclass
class Live:
    """Called after each leg; ``pace`` is what is known before the first."""

    run: Run
    model: ModelSpec
    steps: list[int]
    room: Room
    pace: Pace | None
    price: Money | None
    reported: float = field(default_factory=time.monotonic)

    def open(self, history: History) -> None:
        """Say what is searched, and head the table."""
        tune, known = self.model.tune, len(history.trials)
        assert tune is not None
        say(
            f"{self.run.id}: {tune.trials} trials of {tune.search.type}, rungs at steps "
            f"{self.steps}, {self.room.describe()}"
            + (f"; {known} trials are known" if known else "")
        )
        say(heading(self.model.metric, self.price is not None))

    def __call__(self, history: History, leg: Leg) -> None:
        tune, higher = self.model.tune, self.model.direction == "max"
        assert tune is not None
        parallel = self.room.parallel
        say(line(history, leg, tune, higher, self.steps, parallel, self.pace, self.price))
        if time.monotonic() - self.reported > REPORT_EVERY_S:
            write_results(self.run, history, self.model, self.price)
            self.reported = time.monotonic()
