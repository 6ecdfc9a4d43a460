"""Trials of a 10-second function, by our driver and by plain Ray Tune: writes function.json.

    python -m tests.bench.sweep_function FOLDER TRIALS

on the cluster at RAY_ADDRESS.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import ray.tune

from cluster.local_storage import LocalStorage
from cluster.spec import parse_model
from tests.bench.samples import LANGUAGE
from tune.driver import Legs
from tune.history import Log
from tune.rungs import Ladder
from tune.sweep import run_legs

SECONDS, PARALLEL = 10.0, 2


def ours(config: dict[str, Any]) -> None:
    """A leg of a trial, which reports as `tune.legs.train_leg` does."""
    time.sleep(SECONDS)
    score = config["values"]["train.optimizer.lr"]
    ray.tune.report({"score": score, "step": 1, "run": "function", "seconds": SECONDS})


def plain(config: dict[str, Any]) -> None:
    """The same as people write it for Ray Tune."""
    time.sleep(SECONDS)
    ray.tune.report({"score": config["lr"]})


def main(folder: Path, trials: int) -> None:
    """Run both, the plain one first."""
    ray.init(logging_level="warning")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        ray.tune.Tuner(
            ray.tune.with_resources(plain, {"CPU": 1}),
            param_space={"lr": ray.tune.loguniform(1e-4, 1e-1)},
            tune_config=ray.tune.TuneConfig(num_samples=trials),
            run_config=ray.tune.RunConfig(storage_path=place, verbose=0),
        ).fit()
    middle = time.monotonic()
    space = {"train.optimizer.lr": {"log": [1e-4, 1e-1]}}
    section = {"trials": trials, "search": "random", "scheduler": "none", "space": space}
    model = parse_model(LANGUAGE | {"tune": section})
    assert model.tune is not None
    log = Log(LocalStorage(folder), "function")
    legs = Legs(model, Ladder(model.tune, model.train, 32), log, lambda *_: None, lambda _: None)
    run_legs(ray.tune.with_resources(ours, {"CPU": 1}), "function", legs, PARALLEL)
    ended = time.monotonic()
    assert len(legs.history.legs) == trials
    found = {"plain": middle - began, "ours": ended - middle}
    (folder / "function.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
