"""A recorded search space: what real trainings gave at every point of a grid over five keys.

    python -m tests.bench.surface [SECONDS]

trains the points of surface.json that are missing, for so long, and adds them. A search is then
played over the table in no time, a thousand times over.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from cluster.spec import ModelSpec, load, parse_model, with_values
from cluster.storage import open_storage
from jobs.domains import open_domain
from jobs.engine import decay_groups
from jobs.prepare import prepare
from jobs.prepared import PreparedData
from jobs.schedule import learning_rate, num_steps, warmup_steps

TABLE = Path(__file__).with_name("surface.json")
MODEL: dict[str, Any] = {
    "domain": "vision",
    "task": "classification",
    "data": "builtin:digits",
    "network": {"type": "cnn"},
    "metric": "loss",
    "train": {"epochs": 1, "schedule": {"warmup": "10%"}},
}
SPACE: dict[str, Any] = {
    "train.optimizer.lr": {"log": [1e-4, 1e-1]},
    "train.optimizer.weight_decay": {"log": [1e-3, 1.0]},
    "train.label_smoothing": {"uniform": [0.0, 0.3]},
    "train.global_batch": [16, 32, 64],
    "network.width": [4, 8, 16],
}
GRID: dict[str, list[Any]] = {
    "train.optimizer.lr": [10 ** (-4 + 3 * i / 11) for i in range(12)],
    "train.optimizer.weight_decay": [1e-3, 10**-1.5, 1.0],
    "train.label_smoothing": [0.0, 0.1, 0.3],
    "train.global_batch": [16, 32, 64],
    "network.width": [4, 8, 16],
}


def points() -> list[tuple[int, ...]]:
    """Every point of the grid, by the places of its values."""
    return list(itertools.product(*(range(len(values)) for values in GRID.values())))


def load_table() -> dict[str, float]:
    """Validation loss by point, as "3 0 1 2 0"."""
    return dict(json.loads(TABLE.read_text())["loss"]) if TABLE.exists() else {}


def nearest(values: dict[str, Any]) -> str:
    """The point of the grid next to any values of the space, each key in its own scale."""
    return " ".join(str(_place(key, values[key])) for key in GRID)


def _place(key: str, value: Any) -> int:
    scale = math.log if "log" in SPACE[key] else float
    distances = [abs(scale(known) - scale(value)) for known in GRID[key]]
    return distances.index(min(distances))


def train(model: ModelSpec, data: PreparedData) -> float:
    """Train in this process as the loop does, on one thread; loss on validation."""
    torch.manual_seed(model.train.seed)
    domain = open_domain(model, data.processor(), None)
    network: Any = domain.network()
    rows, held = data.rows("train"), data.rows("validation")
    assert rows is not None
    assert held is not None
    size, total = model.train.global_batch, num_steps(model.train, len(rows))
    options, warmup = model.train.optimizer, warmup_steps(model.train, len(rows))
    optimizer = torch.optim.AdamW(decay_groups(network, options.weight_decay), lr=options.lr)
    dice = np.random.default_rng(model.train.seed)
    epochs = [dice.permutation(len(rows)) for _ in range(1 + total * size // len(rows))]
    order = np.concatenate(epochs)
    for step in range(total):
        chosen = order[step * size : (step + 1) * size]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(model.train, step, total, warmup)
        optimizer.zero_grad()
        domain.loss(network, domain.collate(rows.take(chosen), seed=step)).backward()
        clip_grad_norm_(network.parameters(), model.train.clip)
        optimizer.step()
    network.eval()
    with torch.no_grad():
        outcomes = domain.outcomes(network, domain.collate(held.take(np.arange(len(held)))))
    return float(domain.metrics(outcomes)["loss"])


def main(seconds: float) -> None:
    """Record points in a random order, so that a table cut off is spread evenly."""
    torch.set_num_threads(1)
    table, model, began = load_table(), parse_model(MODEL), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        document = {"name": "surface", "cluster": {"storage": folder}, "models": {"m": MODEL}}
        path = Path(folder, "cluster.yaml")
        path.write_text(json.dumps(document))
        storage = open_storage(load(path).cluster.storage, "surface")
        data = PreparedData(storage, prepare(model, storage, print).digest)
        todo = [p for p in points() if " ".join(map(str, p)) not in table]
        np.random.default_rng(0).shuffle(todo)
        for point in todo:
            if time.monotonic() - began > seconds:
                break
            places = zip(GRID, point, strict=True)
            values = {key: GRID[key][place] for key, place in places}
            loss = train(with_values(model, values, Path(folder)), data)
            table[" ".join(map(str, point))] = round(min(loss, 1e6), 5)
    content = {"model": MODEL, "grid": GRID, "loss": dict(sorted(table.items()))}
    TABLE.write_text(json.dumps(content) + "\n")
    print(f"{len(table)} of {len(points())} points")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 500.0)
