"""What a sweep leaves in storage beside its log: trials.parquet and report.html."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.spec import ModelSpec, Money
from jobs.runs import Run
from tune.history import History
from tune.report import render
from tune.table import keys, rows


def write_results(run: Run, history: History, model: ModelSpec, price: Money | None = None) -> None:
    """Write trials.parquet and report.html beside the log."""
    page = render(run.id, history, model, price)
    run.storage.write(f"sweeps/{run.id}/report.html", page.encode())
    table = rows(history, model.direction == "max")
    columns = {
        name: [_cell(row[name]) if name in keys(history) else row[name] for row in table]
        for name in (table[0] if table else {})
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trials.parquet")
        pq.write_table(pa.table(columns), path)
        run.storage.upload(path, f"sweeps/{run.id}/trials.parquet")


def _cell(value: Any) -> str | None:
    """Values of one key may have several types."""
    return None if value is None else str(value)
