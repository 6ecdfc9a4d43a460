"""Two runs side by side: what they were asked, how they went, what came of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.local_storage import LocalStorage
from cluster.request import Request
from jobs.runs import Run
from jobs.verbs.comparison import compare, show

YAML = """\
name: acme
models:
  m:
    domain: text
    train: {{steps: 30, optimizer: {{lr: {lr}}}}}
"""


def put_run(storage: LocalStorage, digest: str, lr: float, steps: int, **metrics: float) -> Run:
    run = Run.open(storage, "m", "train", digest * 16)
    number = run.next_attempt({"resumes": None, "data": "d1"})
    storage.write(f"{run.path}/spec.yaml", YAML.format(lr=lr).encode())
    lines = [json.dumps({"step": step, "loss": lr * step}) for step in range(1, steps + 1)]
    storage.write(f"{run.path}/{number}/metrics.jsonl", "\n".join(lines).encode())
    if metrics:
        run.finish({"version": 3, "metrics": metrics}, number)
    return run


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    storage = LocalStorage(tmp_path)
    first = put_run(storage, "aaaa", 0.1, 30, accuracy=0.9)
    return compare(first, put_run(storage, "bbbb", 0.2, 20))


def test_what_differs(found: dict[str, Any]) -> None:
    assert found["differences"] == [{"key": "train.optimizer.lr", "values": [0.1, 0.2]}]


def test_the_curves_meet_at_a_dozen_steps(found: dict[str, Any]) -> None:
    steps = [point["step"] for point in found["curve"]]
    assert (len(steps), steps[0], steps[-1]) == (12, 1, 30)
    assert found["curve"][0]["losses"] == [0.1, 0.2]
    assert found["curve"][-1]["losses"] == [3.0, None]


def test_what_came_of_them(found: dict[str, Any]) -> None:
    first, second = found["results"]
    assert (first["state"], first["steps"], first["metrics"]) == ("complete", 30, {"accuracy": 0.9})
    assert (second["state"], second["steps"]) == ("interrupted", 20)


def test_what_people_see(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    show(Request(), found)
    told = capsys.readouterr().out
    for words in ("m-train-aaaa", "train.optimizer.lr", "accuracy", "interrupted"):
        assert words in told


def test_a_run_that_is_none(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    run = put_run(storage, "aaaa", 0.1, 3)
    with pytest.raises(ValueError, match=r"no run 'x'; there are: m-train-aaaa"):
        compare(run, Run(storage, "x"))
