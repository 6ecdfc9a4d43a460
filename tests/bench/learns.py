"""It learns: nanoGPT's CPU setting on Tiny Shakespeare, by the entry point that users have."""

from __future__ import annotations

from pathlib import Path

from jobs.bundles import resolve
from tests.bench.result import Result, Say
from tests.clusters import own_cluster, train
from tests.trainings import MODEL, curve, shared_folder, write_spec

CLAIM = "it learns"
HOW = (
    "Tiny Shakespeare, characters, nanoGPT's CPU setting (4 layers, 4 heads, 128 wide, context 64, "
    "batch 12, 2000 steps); the published version on the last 10 % of train.txt"
)
LIMIT = 1.88
SETTINGS = {
    "global_batch": 12,
    "workers": 1,
    "optimizer": {"lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 0.1},
    "schedule": {"type": "cosine", "warmup": "100 steps", "final": 0.1},
    "clip": 1.0,
}


def measure(folder: Path, say: Say, steps: int = 2000) -> Result:
    """Train and evaluate one run on a cluster of its own."""
    shared = shared_folder()
    if shared is None:
        return Result("not measured: SLIPWAY_SHARED is absent", f"at most {LIMIT}", False)
    source = shared / "lm" / "tinyshakespeare" / "train.txt"
    spec = write_spec(
        folder,
        SETTINGS | {"steps": steps, "checkpoint": {"every": f"{max(1, steps // 4)} steps"}},
        {"layers": 4, "heads": 4, "width": 128, "context": 64, "dropout": 0.0},
        {"source": str(source), "tokenizer": "character", "split": {"validation": "10%"}},
        "learns",
    )
    with own_cluster(spec, folder / "state") as connection:
        run = train(connection, spec, until="evaluate")
    result = run.result()
    assert result is not None
    version = resolve(run.storage, f"{MODEL}@{result['version']}")
    report = next(e for e in version.evaluations.values() if e["split"] == "validation")
    nats = report["metrics"]["nats_per_character"]
    say(f"{version.name}: {nats:.4f} nats per character over {report['count']:,} characters")
    validations = curve(spec, run.id, "validation")
    return Result(
        f"{nats:.3f} nats per character", f"at most {LIMIT}", nats <= LIMIT,
        {"evaluation": report, "validations": validations},
    )  # fmt: skip
