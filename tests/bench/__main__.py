"""Measure the rows of tests/bench/README.md: python -m tests.bench [ROW ...]."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.bench.estimates import NETWORKS
from tests.bench.killer import CASES
from tests.bench.quality import BOUNDS
from tests.bench.result import Result
from tests.bench.samples import SAMPLES
from tests.bench.serving import WAYS
from tests.bench.table import load_results, machine, write_results

ROWS = {
    "parity": "tests.bench.parity",
    "memory": "tests.bench.memory",
    "bundle": "tests.bench.bundle",
    "resume": "tests.bench.resume",
    "reshard": "tests.bench.reshard",
    "checkpoint-cost": "tests.bench.checkpoint_cost",
    "preemption": "tests.bench.preemption",
    "hang": "tests.bench.hang",
    "fencing": "tests.bench.fencing",
    "corrupt": "tests.bench.corrupt",
    "overhead": "tests.bench.overhead",
    "input": "tests.bench.feeding",
    "learns": "tests.bench.learns",
    "masked": "tests.bench.masked",
    "plan-scale": "tests.bench.scale",
    "sweep-search": "tests.bench.search_pays",
    "sweep-fits": "tests.bench.sweep_fits",
    "sweep-stops": "tests.bench.sweep_stops",
    "sweep-restarts": "tests.bench.sweep_restarts",
    "sweep-overhead": "tests.bench.sweep_overhead",
}
SWITCHES = ("SEEDS", "KILLS", "STEPS", "TRIALS", "FUNCTION_TRIALS", "MODELS", "MINUTES")
"""What the environment may change of a row."""
SERVING = (
    "speed", "peers", "streams", "upgrades", "overload", "survives", "fuzz", "scales", "steady",
)  # fmt: skip
ROWS |= {
    f"{row}-{domain}": f"tests.bench.{row}"
    for domain in SAMPLES
    if domain != "language"
    for row in ("parity", "bundle", "resume")
}
ROWS |= {f"killer-{case}": "tests.bench.killer" for case in CASES}
ROWS |= {f"estimates-{network}": "tests.bench.estimates" for network in NETWORKS}
ROWS |= {f"serving-{task}": "tests.bench.serving" for task in WAYS}
ROWS |= {f"serve-{row}": f"tests.bench.serve_{row}" for row in SERVING}
ROWS |= {f"quality-{model}": "tests.bench.quality" for model in BOUNDS}


def main(names: list[str]) -> int:
    """Measure the rows named, or all; 1 where one does not hold, 2 for a name that is none."""
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        print(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    results = load_results()
    for name in names or ROWS:
        results[name] = measured(name)
        write_results({row: results[row] for row in ROWS if row in results})
    return 0 if all(results[name]["holds"] for name in names or ROWS) else 1


def measured(name: str) -> dict[str, Any]:
    """Measure one row in a folder of its own; an error is a figure that does not hold."""
    row: Any = import_module(ROWS[name])
    stem, _, rest = name.partition("-")
    sample = rest if ROWS[name] == f"tests.bench.{stem}" else ""
    options = {"sample": sample} if sample else {}
    claim = f"{row.CLAIM}, {sample}" if sample else row.CLAIM
    print(f"{name}: {claim}", flush=True)
    began, say = time.monotonic(), lambda line: print(f"  {line}", flush=True)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        os.environ["SLIPWAY_CACHE"] = f"{folder}/cache"
        try:
            result: Result = row.measure(Path(folder), say, **options)
        except Exception as error:  # the other rows are still to be measured
            reason = str(error).strip().splitlines() or [type(error).__name__]
            print(error, file=sys.stderr)
            result = Result(f"failed: {reason[-1][:200]}", "", False)
    seconds = time.monotonic() - began
    verdict = "holds" if result.holds else "DOES NOT HOLD"
    print(
        f"{name}: {result.figure}; bound: {result.bound}: {verdict} ({seconds:.0f} s)", flush=True
    )
    return {
        "claim": claim,
        "how": row.HOW + result.how,
        "bound": result.bound,
        "figure": result.figure,
        "holds": result.holds,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds, 1),
        "command": f"{_asked()}make bench ROW={name}",
        "machine": machine(),
        "details": result.details,
    }


def _asked() -> str:
    """How the command begins where the environment asks for other than the usual."""
    return "".join(f"{name}={os.environ[name]} " for name in SWITCHES if name in os.environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
