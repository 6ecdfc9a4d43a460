"""ZeRO 0 to 3 give the same training: the loss curves of one spec at each stage."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from cluster.spec import Spec
from tests.bench.kinks import NUDGES, SMOOTH, train_apart
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
HOW = "loss curves of 50 steps, 2 workers, fp32, dropout on; largest difference of any two stages"
LIMIT = 1e-4
HAS_KINKS = ("vision",)
SMOOTHED = (
    ". Of a network whose ReLUs and maxima are replaced by GELU and means: with them one last bit "
    "of one weight moves a curve, without ZeRO, as far as the stages lie apart (in the figure)"
)


def measure(folder: Path, say: Say, steps: int = 50, sample: str = "language") -> Result:
    """Train at every stage in one process group and compare all pairs of curves."""
    train = {"steps": steps, "global_batch": 16, "micro_batch": 4, "workers": 2}
    larger = {"width": 128, "dropout": 0.1} if sample == "language" else {}
    spec = write_spec(folder, train, larger, sample=sample)
    data = prepare_data(spec)
    if sample in HAS_KINKS:
        run_group(train_apart, 2, spec, data, STAGES)
        return _smoothed(spec, say, steps)
    run_group(train_cases, 2, spec, data, [Case(stage) for stage in STAGES])
    return _compared(spec, say, steps)


def _compared(spec: Spec, say: Say, steps: int, mark: str = "") -> Result:
    curves = {stage: curve(spec, Case(stage, mark=mark).run) for stage in STAGES}
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


def _smoothed(spec: Spec, say: Say, steps: int) -> Result:
    smooth, own = _compared(spec, say, steps, SMOOTH), _compared(spec, say, steps)
    plain = curve(spec, Case(STAGES[0]).run)
    nudged = {
        str(place): largest_difference(plain, curve(spec, Case(STAGES[0], mark=f"-{place}").run))
        for place in NUDGES
    }
    apart = max(own.details["pairs"].values())
    figure = f"{smooth.figure}; with kinks {apart:.1e}, by a last bit {max(nudged.values()):.1e}"
    details = smooth.details | {"with_kinks": own.details["pairs"], "nudged": nudged}
    return Result(figure, smooth.bound, smooth.holds, details, SMOOTHED)
