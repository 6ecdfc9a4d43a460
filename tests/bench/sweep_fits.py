"""Never hangs: every small combination of CPUs, workers and trials fits or is refused at once."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

from cluster.request import Request
from tests.bench.result import Result, Say
from tests.bench.samples import LANGUAGE
from tune.verbs import plan

CLAIM = "a sweep never hangs"
HOW = (
    "slipway plan of a sweep with each of 1 to 4 CPUs, 1 to 3 workers per trial and 1 to 4 "
    "parallel trials: refused with the reason, or no more workers at once than CPUs; plan only, "
    "the sweeps themselves are not run"
)
LIMIT_S = 10.0


def measure(folder: Path, say: Say) -> Result:
    """Plan all 48 combinations."""
    (folder / "cluster.yaml").write_text("{}")
    slowest, fitting, refused, wrong = 0.0, 0, 0, []
    for cpus in range(1, 5):
        for workers in range(1, 4):
            for parallel in range(1, 5):
                began = time.monotonic()
                found = planned(folder, cpus, workers, parallel)
                slowest = max(slowest, time.monotonic() - began)
                fits = isinstance(found, dict) and found["parallel"] * found["workers"] <= cpus
                reason = isinstance(found, str) and "workers, but the cluster has room" in found
                fitting, refused = fitting + fits, refused + reason
                if not (fits if workers <= cpus else reason):
                    wrong.append([cpus, workers, parallel, str(found)])
        say(f"{cpus} CPUs: {fitting} fit, {refused} are refused so far")
    return Result(
        f"{fitting} fit, {refused} refused with the reason, {len(wrong)} neither; the slowest "
        f"took {slowest:.1f} s",
        f"all, each within {LIMIT_S:.0f} s",
        not wrong and slowest < LIMIT_S,
        {"wrong": wrong, "slowest_s": slowest},
    )


def planned(folder: Path, cpus: int, workers: int, parallel: int) -> dict[str, Any] | str:
    """What the plan says of the sweep, or the reason for which it is refused."""
    tune = {"parallel": parallel, "space": {"train.optimizer.lr": {"log": [1e-4, 1e-2]}}}
    train = {"steps": 90, "global_batch": 12, "workers": workers}
    document = {
        "cluster": {"storage": "./store", "head": {"cpus": cpus}},
        "models": {"m": LANGUAGE | {"train": train, "tune": tune}},
    }
    path = folder / "cluster.yaml"
    path.write_text(json.dumps(document))
    written = io.StringIO()
    try:
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(io.StringIO()):
            plan(Request(file=path, json=True))
    except ValueError as error:
        return str(error)
    found: dict[str, Any] = json.loads(written.getvalue())["models"]["m"]["tune"]
    return found
