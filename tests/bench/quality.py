"""Quality on public data: the models of quality.yaml, judged on a part that they never saw."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.connection import Connection
from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.bundles import resolve, versions
from tests.bench.result import Result, Say
from tests.bench.voices import figures_of
from tests.clusters import own_cluster, train

CLAIM = "quality"
HOW = (
    "tests/bench/quality.yaml, trained through the job's entry point on 2 workers, judged on its "
    "own test part; three seeds, each with a split of its own (SEEDS=1: one), where a run takes "
    "under 5 minutes"
)
SPEC = Path(__file__).with_name("quality.yaml")
SHORT_S, MOST_S = 300.0, 1200.0


@dataclass(frozen=True)
class Bound:
    """What a model must reach, and would at best."""

    metric: str
    must: float
    stretch: float | None = None
    is_lowest: bool = False
    """Whether less is better."""
    beside: str = ""
    """The baseline's figure that the metric is divided by; none where empty."""
    judge: str = ""
    """The recogniser of quality.yaml that listens to a voice."""

    def value(self, run: dict[str, Any]) -> float:
        """What a run is judged by."""
        own = float(run["metrics"][self.metric])
        return own / float(run["baseline"][self.beside]) if self.beside else own

    def holds(self, value: float) -> bool:
        return value <= self.must if self.is_lowest else value >= self.must

    @property
    def told(self) -> str:
        times = f" times the baseline's {self.beside}" if self.beside else ""
        return f"at {'most' if self.is_lowest else 'least'} {self.must}{times}"


BOUNDS = {
    "ag-news": Bound("accuracy", 0.885, 0.90),
    "sst2": Bound("accuracy", 0.81, 0.83),
    "hotels": Bound("accuracy", 0.89, 0.91),
    "headlines": Bound("accuracy", 0.87, 0.89),
    "fashion": Bound("accuracy", 0.93, 0.945),
    "digits": Bound("accuracy", 0.99, 0.993),
    "cifar": Bound("accuracy", 0.70, 0.80),
    "spoken-digits": Bound("wer", 0.03, 0.01, is_lowest=True),
    "new-speaker": Bound("wer", 0.20, 0.10, is_lowest=True),
    "digits-voice": Bound("recognised", 0.80, 0.95, judge="spoken-digits"),
    "clock-voice": Bound("read in order", 0.75, 1.0, judge="clock-words"),
    "ratings": Bound("rmse", 0.925, 0.90, is_lowest=True),
    "films": Bound("ndcg@10", 1.15, 1.4, beside="ndcg@10"),
    "imports": Bound("ndcg@10", 1.3, beside="popularity ndcg@10"),
}


def measure(folder: Path, say: Say, sample: str) -> Result:
    """Train and evaluate one model of quality.yaml, with further seeds where that is quick."""
    bound, runs = BOUNDS[sample], []
    first = _load(folder, sample, 0)
    with own_cluster(first, folder / "state") as connection:
        for seed in range(int(os.environ.get("SEEDS", "3"))):
            runs.append(_run(connection, _load(folder, sample, seed), sample))
            if bound.judge:
                _listen(connection, _load(folder, sample, seed), sample, runs[-1])
            say(f"seed {seed}: {_told(runs[-1])}")
            if runs[0]["seconds"] > SHORT_S:
                break
    values = [bound.value(run) for run in runs]
    spread = f" ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else " (one seed)"
    mean, seconds = statistics.mean(values), max(run["seconds"] for run in runs)
    name = bound.metric + (f" / baseline's {bound.beside}" if bound.beside else "")
    return Result(
        f"{name} {mean:.4f}{spread}, {seconds:.0f} s a run",
        bound.told,
        bound.holds(mean) and seconds <= MOST_S,
        {"runs": runs, "must": bound.must, "stretch": bound.stretch, "metric": bound.metric},
    )


def _load(folder: Path, sample: str, seed: int) -> Spec:
    seeds = (f"models.{sample}.{part}.seed={seed}" for part in ("data", "train"))
    return load(SPEC, overrides=(f"cluster.storage={folder}/store", *seeds))


def _run(connection: Connection, spec: Spec, sample: str) -> dict[str, Any]:
    began = time.monotonic()
    run = train(connection, spec, until="evaluate", name=sample)
    seconds = time.monotonic() - began
    result = run.result()
    assert result is not None
    report = resolve(run.storage, f"{sample}@{result['version']}").held_back
    assert report is not None
    return {"seconds": seconds} | {key: report[key] for key in ("metrics", "baseline", "records")}


def _listen(connection: Connection, spec: Spec, voice: str, run: dict[str, Any]) -> None:
    """Let a recogniser of real recordings hear the voice; its figures become the run's."""
    judge = BOUNDS[voice].judge
    storage = open_storage(spec.cluster.storage, spec.name)
    if not versions(storage, judge):
        own = _run(connection, spec, judge)
        run["judge"] = {"model": judge, "metrics": own["metrics"]}
    run["metrics"] |= figures_of(storage, voice, judge)


def _told(run: dict[str, Any]) -> str:
    figures = ", ".join(f"{name} {value:.4f}" for name, value in run["metrics"].items())
    return f"{figures}; {run['seconds']:.0f} s; baseline {run['baseline']}"
