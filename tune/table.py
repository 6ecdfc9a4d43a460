"""A sweep as people follow it: a line per leg, and the trials as a table in storage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.spec import ModelSpec
from cluster.spec.tune import TuneSpec
from jobs.runs import Run
from tune.history import History, Trial


def line(history: History, tune: TuneSpec | None, higher: bool) -> str:
    """Where a sweep stands after its newest leg."""
    assert tune is not None
    best = history.best(higher)
    done = sum(1 for t in history.trials.values() if t.scores or t.failed)
    text = f"{done} of at most {tune.trials} trials"
    if history.order:
        trial = history.trials[history.order[-1][0]]
        rung = trial.rung
        text += f"; trial {trial.number} {shown(trial.values)}, step {trial.steps[rung]}: "
        text += f"{trial.scores[rung]:.4g}"
    if best is not None:
        text += f"; best so far {best_score(best, higher):.4g} (trial {best.number})"
    return text


def best_score(trial: Trial, higher: bool) -> float:
    """The best of a trial's scores."""
    return (max if higher else min)(trial.scores.values())


def shown(values: dict[str, Any]) -> str:
    """Values in one line, keys by their last parts."""
    parts = []
    for key, value in values.items():
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        parts.append(f"{key.rpartition('.')[2]}={text}")
    return " ".join(parts)


def rows(history: History, higher: bool) -> list[dict[str, Any]]:
    """One row a trial, in the order of their numbers."""
    found = []
    for trial in sorted(history.trials.values(), key=lambda t: t.number):
        scored = bool(trial.scores)
        found.append(
            {
                "trial": trial.number,
                "state": "failed" if trial.failed else "stopped" if trial.stopped else "scored",
                "score": best_score(trial, higher) if scored else None,
                "rung": trial.rung,
                "steps": max(trial.steps.values(), default=0),
                "seconds": trial.seconds,
                "run": trial.run,
                "reason": trial.failed,
                **{key: trial.values.get(key) for key in _keys(history)},
            }
        )
    return found


def _keys(history: History) -> list[str]:
    return sorted({key for trial in history.trials.values() for key in trial.values})


def write_results(run: Run, history: History, model: ModelSpec) -> None:
    """Write trials.parquet beside the log."""
    table = rows(history, model.direction == "max")
    columns = {
        name: [_cell(row[name]) if name in _keys(history) else row[name] for row in table]
        for name in (table[0] if table else {})
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trials.parquet")
        pq.write_table(pa.table(columns), path)
        run.storage.upload(path, f"sweeps/{run.id}/trials.parquet")


def _cell(value: Any) -> str | None:
    """Values of one key may have several types."""
    return None if value is None else str(value)
