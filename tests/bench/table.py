"""results.json, and the README.md that is made from it."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from tests.bench.scale import rendered
from tests.memory_census import KINDS

FOLDER = Path(__file__).parent
RESULTS, README = FOLDER / "results.json", FOLDER / "README.md"
PACKAGES = ("torch", "ray", "deepspeed", "transformers")
HEAD = """# What was measured

`make bench` measures every row, `make bench ROW=parity` one; the others keep their dated result.
This page is made from `results.json`, which also holds what stands behind each figure. A row that
does not hold says so here and in the command's exit code.

"""


def load_results() -> dict[str, dict[str, Any]]:
    """The newest result of each row that was ever measured."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def write_results(results: dict[str, dict[str, Any]]) -> None:
    """Replace results.json and README.md."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    README.write_text(render(results))


def machine() -> str:
    """Processor, memory, system and versions, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def render(results: dict[str, dict[str, Any]]) -> str:
    """README.md as a pure function of the results."""
    lines = [
        "| claim | how | bound | figure | holds | date | seconds | command |",
        "|---" * 8 + "|",
    ]
    for name, row in results.items():
        if name.startswith("quality-"):
            continue
        holds = "yes" if row["holds"] else "**no**"
        cells = [row["claim"], row["how"], row["bound"], row["figure"], holds, row["date"]]
        cells += [f"{row['seconds']:.0f}", f"`make bench ROW={name}`"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    text = HEAD + "\n".join(lines) + "\n\n" + _machines(results)
    table = results.get("memory", {}).get("details", {}).get("table")
    text += _quality(results) + (_memory(table) if table else "")
    scale = results.get("plan-scale", {}).get("details", {}).get("table")
    return text + (rendered(scale) if scale else "")


def _quality(results: dict[str, dict[str, Any]]) -> str:
    """Quality on public data, a line a model of quality.yaml."""
    rows = {name: row for name, row in results.items() if name.startswith("quality-")}
    if not rows:
        return ""
    lines = [
        "\n## Quality\n",
        f"{next(iter(rows.values()))['how']}. The baseline learned from the same training part.\n",
        "| model | result | must | stretch | holds | baseline | records | date | command |",
        "|---" * 9 + "|",
    ]
    for name, row in rows.items():
        details = row["details"]
        first = (details.get("runs") or [{}])[0]
        baseline = first.get("baseline") or {}
        metric, runs = details.get("metric", ""), details.get("runs") or [{}]
        figure = mean((run.get("baseline") or {}).get(metric, math.nan) for run in runs)
        cells = [name.partition("-")[2], row["figure"], details.get("must", row["bound"])]
        cells += [details.get("stretch") or "", "yes" if row["holds"] else "**no**"]
        cells += [f"{figure:.4f} ({baseline.get('name', 'none')})", first.get("records", "")]
        cells += [row["date"], f"`{row['command']}`"]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _machines(results: dict[str, dict[str, Any]]) -> str:
    by_machine: dict[str, list[str]] = {}
    for name, row in results.items():
        if name.startswith("quality-"):
            continue
        by_machine.setdefault(row["machine"], []).append(name)
    return "".join(f"Machine of {', '.join(rows)}: {name}.\n" for name, rows in by_machine.items())


def _memory(table: list[dict[str, Any]]) -> str:
    """Bytes per parameter, measured and by the formula, of every stage and number of workers."""
    lines = [
        f"\n## Memory per rank, in bytes per parameter (Ψ = {table[0]['psi']:,})\n",
        "Measured / by the formula, on the worst rank; gradients at their peak, with the bucket "
        "they travel in.\n`over` is how far that is above the formula, in largest layers.\n",
        "| workers | stage | parameters | gradients | over | optimizer | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table:
        psi = row["psi"]
        cells = [f"{row['found'][k] / psi:.3f} / {row['expected'][k] / psi:.3f}" for k in KINDS]
        cells.insert(2, f"{row['over_layers']:.2f}")
        holds = "yes" if row["holds"] else "**no**"
        head = f"| {row['workers']} | {row['stage']} | "
        lines.append(head + " | ".join([*cells, holds]) + " |")
    return "\n".join(lines) + "\n"
