"""Search pays: TPE against random search over a recorded table, by a sign test."""

from __future__ import annotations

import math
import os
import statistics
from pathlib import Path

from cluster.spec import parse_model
from cluster.spec.tune import TuneSpec
from tests.bench.result import Result, Say
from tests.bench.surface import MODEL, SPACE, load_table, nearest
from tune.history import History
from tune.search import suggest

CLAIM = "search pays"
HOW = (
    "best validation loss after 40 trials over tests/bench/surface.json, 972 real trainings of a "
    "cnn on handwritten digits over a grid of 5 keys (lr, weight decay, label smoothing, batch, "
    "width); TPE against random search with the same seeds; one-sided sign test"
)
TRIALS = 40


def measure(folder: Path, say: Say) -> Result:
    """Play both searches with each seed; SEEDS, 20 by default."""
    seeds = int(os.environ.get("SEEDS", "20"))
    table = load_table()
    found: dict[str, list[float]] = {"tpe": [], "random": []}
    for seed in range(seeds):
        for search, bests in found.items():
            bests.append(best(search, seed, table))
        say(f"seed {seed}: tpe {found['tpe'][-1]:.4f}, random {found['random'][-1]:.4f}")
    wins = sum(a < b for a, b in zip(found["tpe"], found["random"], strict=True))
    losses = sum(a > b for a, b in zip(found["tpe"], found["random"], strict=True))
    p = sign_test(wins, losses)
    medians = {search: statistics.median(bests) for search, bests in found.items()}
    return Result(
        f"median best {medians['tpe']:.4f} against {medians['random']:.4f}; {wins} wins, "
        f"{losses} losses of {seeds} seeds, p = {p:.2g}; the table's best is "
        f"{min(table.values()):.4f}",
        "median better, p below 0.05",
        medians["tpe"] < medians["random"] and p < 0.05,
        {"bests": found, "points": len(table)},
    )


def best(search: str, seed: int, table: dict[str, float]) -> float:
    """The best loss of one sweep, trials one after the other."""
    section = {"trials": TRIALS, "search": search, "scheduler": "none", "seed": seed}
    tune = parse_model(MODEL | {"tune": section | {"space": SPACE}}).tune
    assert isinstance(tune, TuneSpec)
    history = History()
    for number in range(TRIALS):
        values = suggest(tune, number, history, higher=False)
        assert values is not None
        history.add({"event": "trial", "trial": number, "values": values})
        told = {"score": table[nearest(values)], "step": 1, "seconds": 0.0, "run": "table"}
        history.add({"event": "score", "trial": number, "rung": 0} | told)
    return min(score for trial in history.trials.values() for score in trial.scores.values())


def sign_test(wins: int, losses: int) -> float:
    """Probability of so many wins or more by chance; ties count for neither."""
    count = wins + losses
    return sum(math.comb(count, k) for k in range(wins, count + 1)) / 2**count
