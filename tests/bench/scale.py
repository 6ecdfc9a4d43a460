"""Scale on paper: plans for large models on many GPUs, and the ZeRO paper's own figures."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cluster.code import ROOT
from cluster.local_storage import LocalStorage
from cluster.memory import model_states
from cluster.spec import load
from jobs.forecast import forecast
from jobs.verbs.plan_memory import memory_document
from tests.bench.result import Result, Say

CLAIM = "scale on paper"
HOW = (
    "plans of cluster/examples/scale.yaml, three models on 8 to 4,096 H100s (table below), with "
    "its reading; states of 7.5B parameters on 64 devices against figure 1 of the ZeRO paper"
)
EXAMPLE = ROOT / "cluster" / "examples" / "scale.yaml"
GPUS = tuple(8 * 2**i for i in range(10))
PAPER_GB = {0: 120.0, 1: 31.4, 2: 16.6, 3: 1.9}
BOUND_S = 2.0


def measure(folder: Path, say: Say) -> Result:
    """Plan each model for each number of GPUs, and the paper's case by the same functions."""
    began = time.monotonic()
    table = plans(folder)
    seconds = time.monotonic() - began
    states = {stage: sum(model_states(7.5e9, stage, 64, "bf16")) / 1e9 for stage in PAPER_GB}
    shown = ", ".join(f"{gigabytes:.1f}" for gigabytes in states.values())
    say(f"{len(table)} plans in {seconds:.2f} s; 7.5B on 64 devices: {shown} GB")
    command_s = _command()
    is_papers = all(abs(states[stage] - gb) < 0.05 for stage, gb in PAPER_GB.items())
    return Result(
        f"{len(table)} plans in {seconds:.2f} s; {shown} GB at stages 0 to 3; "
        f"the command itself {command_s:.1f} s",
        f"below {BOUND_S:g} s; 120, 31.4, 16.6, 1.9 GB",
        is_papers and seconds < BOUND_S,
        {"table": table, "paper_gb": {str(stage): gb for stage, gb in states.items()}},
    )


def plans(folder: Path) -> list[dict[str, Any]]:
    """A row for each model and number of GPUs."""
    storage, rows = LocalStorage(folder), []
    for gpus in GPUS:
        workers = f"models.{{}}.train.workers={gpus}"
        names = load(EXAMPLE).models
        spec = load(EXAMPLE, None, [workers.format(name) for name in names])
        for name in names:
            found = forecast(spec, name, storage)
            assert found.memory is not None
            memory = memory_document(found.memory)
            stage = str(memory["stage"])
            rows.append(
                {
                    "model": name,
                    "parameters": memory["parameters"],
                    "gpus": gpus,
                    "stage": memory["stage"],
                    "bytes": memory["stages"][stage]["total"],
                    "fits": memory["stages"][stage]["total"] <= 0.9 * memory["device"],
                    "hours": found.hours,
                    "per_hour": found.per_hour,
                    "total": found.total(),
                    "spot": found.total("spot"),
                }
            )
    return rows


def _command() -> float:
    """Seconds of `slipway plan` on the example, from its start to its end."""
    began = time.monotonic()
    command = [sys.executable, str(ROOT / "slipway.py"), "-f", str(EXAMPLE), "plan", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return time.monotonic() - began


def rendered(table: list[dict[str, Any]]) -> str:
    """The table for people: a line a number of GPUs, a column a model."""
    models = {row["model"]: row["parameters"] for row in table}
    head = [f"{name} ({size / 1e9:.1f}B)" for name, size in models.items()]
    lines = [
        "\n## On paper: ZeRO stage, memory per GPU, days for 10,000 steps of 16.8M tokens, price\n",
        "H100s of AWS by `cluster/prices.yaml`, on demand; time from FLOPs at 40 % of the peak, "
        "not measured. **no**: no stage fits, and what the best one takes.\n",
        "| GPUs | " + " | ".join(head) + " |",
        "|---" * (len(head) + 1) + "|",
    ]
    for gpus in sorted({row["gpus"] for row in table}):
        cells = [_cell(row) for row in table if row["gpus"] == gpus]
        lines.append(f"| {gpus:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any]) -> str:
    needs = f"{row['bytes'] / 2**30:,.1f} GiB"
    if not row["fits"]:
        return f"**no**: {needs}"
    money = f"{row['total'] / 1e6:,.2f}M USD"
    return f"{row['stage']}, {needs}, {row['hours'] / 24:,.1f} d, {money}"
