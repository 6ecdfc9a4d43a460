"""ZeRO 0 to 3 give the same training: the loss curves of one spec at each stage."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from tests.bench.result import Result, Say
from tests.process_group import run_group
from tests.trainings import (
    STAGES,
    Case,
    curve,
    largest_difference,
    prepare_data,
    train_cases,
    write_spec,
)

CLAIM = "ZeRO 0 to 3 give the same training"
HOW = "loss curves of 50 steps, 2 workers, fp32, dropout 0.1; largest difference of any two stages"
LIMIT = 1e-4


def measure(folder: Path, say: Say, steps: int = 50, sample: str = "language") -> Result:
    """Train at every stage in one process group and compare all pairs of curves."""
    train = {"steps": steps, "global_batch": 16, "micro_batch": 4, "workers": 2}
    larger = {"width": 128, "dropout": 0.1} if sample == "language" else {}
    spec = write_spec(folder, train, larger, sample=sample)
    cases = [Case(stage) for stage in STAGES]
    run_group(train_cases, 2, spec, prepare_data(spec), cases)
    curves = {case.stage: curve(spec, case.run) for case in cases}
    pairs = {
        f"{a} and {b}": largest_difference(curves[a], curves[b]) for a, b in combinations(STAGES, 2)
    }
    for pair, difference in pairs.items():
        say(f"stages {pair}: {difference:.1e}")
    worst = max(pairs.values())
    first, last = curves[0][0], curves[0][-1]
    return Result(
        f"{worst:.1e} (loss {first:.3f} to {last:.3f})",
        f"below {LIMIT:.0e}",
        worst < LIMIT and len(curves[0]) == steps,
        {"pairs": pairs, "curves": curves},
    )
