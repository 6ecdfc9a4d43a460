"""The page and the table of a sweep."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from cluster.spec import Money, parse_model
from cluster.storage import Storage
from jobs.runs import Run
from tune.history import History
from tune.report import importance, nested, render
from tune.results import write_results
from tune.search import suggest

MODEL: dict[str, Any] = {
    "domain": "text",
    "task": "generation",
    "data": "builtin:python-docs",
    "tune": {
        "search": "random",
        "space": {
            "train.optimizer.lr": {"log": [1e-5, 1e-1]},
            "train.clip": {"uniform": [0.5, 2.0]},
            "network.style": ["gpt2", "llama"],
        },
    },
}


def swept() -> tuple[Any, History]:
    model, history = parse_model(MODEL), History()
    assert model.tune is not None
    for number in range(20):
        values = suggest(model.tune, number, history, False) or {}
        history.add({"event": "trial", "trial": number, "values": values})
        score = values["train.optimizer.lr"] + 0.001 * values["train.clip"]
        event = {"event": "score", "trial": number, "run": f"m-train-{number}", "seconds": 1.5}
        history.add(event | {"rung": 0, "step": 10, "score": score + 1})
        if number % 3 == 0:
            history.add(event | {"rung": 1, "step": 30, "score": score})
    history.add({"event": "trial", "trial": 20, "values": {"network.style": "<b>x</b>"}})
    failed = {"event": "failed", "trial": 20, "rung": 0, "reason": "it diverged", "seconds": 1.0}
    history.add(failed)
    return model, history


def test_the_page_says_what_to_set_and_what_mattered() -> None:
    model, history = swept()
    page = render("m-tune-1", history, model, Money(36.0, "USD", "h"))
    assert "loss against what a trial took, in USD" in page
    assert ">0.415 USD<" in page  # of 28 legs that took 41.5 s
    best = history.best(higher=False)
    assert best is not None
    assert f"lr: {best.values['train.optimizer.lr']}" in page
    assert "<b>x</b>" not in page
    assert "1 x it diverged" in page
    assert 'src="http' not in page
    assert model.tune is not None
    shares = importance(model.tune, history, False)
    assert max(shares, key=lambda key: shares[key]) == "train.optimizer.lr"


def test_the_table_has_a_row_a_trial(storage: Storage) -> None:
    model, history = swept()
    run = Run.open(storage, "m", "tune", "0" * 64)
    write_results(run, history, model)
    path = storage.local_path(f"sweeps/{run.id}/trials.parquet")
    if path is not None:
        table = pq.read_table(path).to_pylist()
        assert [row["trial"] for row in table] == list(range(21))
        assert table[20]["reason"] == "it diverged"
        assert table[3]["steps"] == 30
    assert storage.read(f"sweeps/{run.id}/report.html").startswith(b"<!doctype html>")


def test_dotted_keys_become_sections() -> None:
    values = {"train.optimizer.lr": 0.1, "train.clip": 1.0, "network.betas": (1, 2)}
    assert nested(values) == {
        "train": {"optimizer": {"lr": 0.1}, "clip": 1.0},
        "network": {"betas": [1, 2]},
    }
