"""Little overhead: tokens per second of a run against a bare DeepSpeed script."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.connection import Connection
from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.domains import open_domain
from jobs.engine import engine_config, layout
from jobs.prepared import PreparedData
from jobs.runs import joined_metrics
from tests.bench.result import Result, Say
from tests.clusters import own_cluster, train
from tests.trainings import MODEL, prepare_data, write_spec

CLAIM = "little overhead"
HOW = (
    "tokens/s of jobs.pretrain against tests/bench/bare.py: same network, rows and DeepSpeed "
    "configuration, 2 workers, five alternating blocks of 30 s steady state, cluster up for both; "
    "median of the ratios"
)
LIMIT = 0.97
ROOT = Path(__file__).parents[2]
NETWORK = {"layers": 4, "heads": 4, "width": 192, "context": 128}
WARM_STEPS = 10


def measure(
    folder: Path,
    say: Say,
    blocks: int = 5,
    seconds: float = 30.0,
    network: dict[str, Any] | None = None,
) -> Result:
    """Alternate bare and Ray blocks, each a run from its start, timed after its first steps."""
    settings = {
        "steps": 100,
        "global_batch": 16,
        "micro_batch": 8,
        "workers": 2,
        "precision": "fp32",
        "zero": {"stage": 2},
        "checkpoint": {"every": 1_000_000},
        "schedule": "constant",
    }
    spec = write_spec(folder, settings, network or NETWORK, {"tokenizer": {"size": 2048}}, "speed")
    tokens = 16 * spec.model(MODEL).network.context
    data = prepare_data(spec)
    ratios, rates = [], []
    with own_cluster(spec, folder / "state") as connection:
        for block in range(blocks):
            times = bare_block(folder, spec, data, seconds)
            bare = rate(times, seconds, tokens)
            # Long enough for the window, whatever the machine: steps at the bare script's pace.
            steps = max(3 * WARM_STEPS, int(len(times) * 1.1) + WARM_STEPS)
            ours = rate(ray_block(connection, spec, steps, block), seconds, tokens)
            ratios.append(ours / bare)
            rates.append({"bare": bare, "ours": ours})
            say(f"block {block + 1}: {ours:,.0f} of {bare:,.0f} tokens/s, {ratios[-1]:.3f}")
    median = statistics.median(ratios)
    return Result(
        f"{median:.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        f"at least {LIMIT}",
        median >= LIMIT,
        {"ratios": ratios, "tokens_per_s": rates},
    )


def rate(times: list[float], seconds: float, tokens: int) -> float:
    """Tokens per second over ``seconds`` after the first steps; the last step is left out."""
    start = times[WARM_STEPS - 1]
    window = [t for t in times[WARM_STEPS - 1 : -1] if t - start <= seconds]
    return tokens * (len(window) - 1) / (window[-1] - window[0])


def ray_block(connection: Connection, spec: Spec, steps: int, block: int) -> list[float]:
    """Train a fresh run under Ray; the time after each step."""
    path = spec.root / "cluster.yaml"
    changes = (f"models.{MODEL}.train.steps={steps}", f"models.{MODEL}.train.seed={block + 1}")
    changed = load(path, overrides=changes)
    return [line["time"] for line in joined_metrics(train(connection, changed))]


def bare_block(folder: Path, spec: Spec, data: str, seconds: float) -> list[float]:
    """Run the bare script; the time after each step."""
    config = folder / "bare.json"
    config.write_text(json.dumps(bare_config(folder, spec, data, seconds + 5)))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *launcher, "-m", "tests.bench.bare", str(config)]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"tests/bench/bare.py failed:\n{done.stderr[-3000:]}")
    times: list[float] = json.loads((folder / "times.json").read_text())
    return times


def bare_config(folder: Path, spec: Spec, data: str, seconds: float) -> dict[str, Any]:
    """What the bare script needs to know, taken from the spec's own run."""
    model = spec.model(MODEL)
    prepared = PreparedData(open_storage(spec.cluster.storage, spec.name), data)
    rows = prepared.rows("train")
    assert rows is not None
    network: Any = open_domain(model, prepared.processor()).network()
    batch = layout(model.train, 2)
    sizes = [p.numel() for p in network.parameters()]
    return {
        "rows": str(rows.path),
        "network": network.config.to_dict(),
        "deepspeed": engine_config(model.train, 2, "fp32", batch, sum(sizes), max(sizes)),
        "lr": model.train.optimizer.lr,
        "weight_decay": model.train.optimizer.weight_decay,
        "seconds": seconds,
        "times": str(folder / "times.json"),
    }
