"""The driver without a cluster: legs that are asked for and answered, and drivers that die."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from cluster.local_storage import LocalStorage
from cluster.spec import Money, Spec, parse_model
from jobs.runs import Run
from tune import sweep
from tune.cost import Pace
from tune.driver import Legs
from tune.history import History, Log, Trial, replay
from tune.legs import UnscoredError
from tune.live import Live
from tune.room import Room
from tune.rungs import Ladder
from tune.search import suggest
from tune.sweep import check_scores, conclude

SPACE: dict[str, Any] = {
    "train.optimizer.lr": {"log": [1e-5, 1e-1]},
    "train.clip": {"uniform": [0.5, 2.0]},
}


def spec_of(model: Any) -> Spec:
    return Spec.model_validate({"models": {}}).model_copy(update={"models": {"m": model}})


class KilledError(Exception):
    """The driver's process is gone."""


def model_of(**tune: Any) -> Any:
    section = {"trials": 8, "search": "random", "space": SPACE, "scheduler": "asha"} | tune
    document = {"domain": "text", "task": "generation", "data": "builtin:python-docs"}
    return parse_model(document | {"train": {"steps": 9}, "tune": section})


def driver(folder: Path, model: Any, begun: list[int], price: Money | None = None) -> Legs:
    log = Log(LocalStorage(folder), "m-tune-1")
    ladder = Ladder(model.tune, model.train, 32)

    def begin(trial: Trial) -> None:
        begun.append(trial.number)

    return Legs(model, ladder, log, lambda history, leg: None, begin, price)


def score(config: dict[str, Any]) -> dict[str, Any]:
    values, rung = config["values"], config["rung"]
    loss = abs(math.log10(values["train.optimizer.lr"]) + 3) + values["train.clip"] / (rung + 1)
    told = {"score": loss, "step": (1, 3, 9)[rung], "run": f"r{config['trial']}"}
    return told | {"seconds": 10.0}


def play(legs: Legs, parallel: int, dice: random.Random, dies: float = 0.0) -> None:
    """Answer legs in random order; before each step, the driver may die."""
    under_way: dict[str, dict[str, Any]] = {}
    for number in range(1000):
        if dice.random() < dies:
            raise KilledError
        config = legs.suggest(f"t{number}") if len(under_way) < parallel else None
        if isinstance(config, dict):
            under_way[f"t{number}"] = config
            continue
        if not under_way:
            assert config == "FINISHED"
            return
        if dice.random() < dies:
            raise KilledError
        done = dice.choice(sorted(under_way))
        legs.on_trial_complete(done, score(under_way.pop(done)))
    raise AssertionError("the sweep does not end")


def decisions(history: History) -> dict[int, Any]:
    return {n: (t.stretches, t.scores) for n, t in history.trials.items()}


@pytest.mark.parametrize("search", ["random", "sobol", "tpe"])
@pytest.mark.parametrize("scheduler", ["asha", "none", {"type": "pbt", "every": "3 steps"}])
def test_a_driver_that_dies_any_time_changes_nothing(
    search: str, scheduler: Any, tmp_path: Path
) -> None:
    model = model_of(scheduler=scheduler, search={"type": search, "startup": 2}, trials=6)
    whole = driver(tmp_path / "whole", model, [])
    play(whole, 1, random.Random(0))
    before: list[dict[str, Any]] = []
    dice, killed = random.Random(1), 0
    while True:
        try:
            legs = driver(tmp_path / "cut", model, [])
            play(legs, 1, dice, dies=0.2)
            break
        except KilledError:
            killed += 1
            events = Log(LocalStorage(tmp_path / "cut"), "m-tune-1").read()
            assert events[: len(before)] == before
            before = events
    assert killed > 2
    assert decisions(legs.history) == decisions(whole.history)


def test_replaying_the_log_gives_the_decisions(tmp_path: Path) -> None:
    model = model_of(search={"type": "tpe", "startup": 2})
    play(driver(tmp_path, model, []), 3, random.Random(2))
    history, events = History(), Log(LocalStorage(tmp_path), "m-tune-1").read()
    for event in events:
        if event["event"] == "trial":
            assert suggest(model.tune, event["trial"], history, False) == event["values"]
        history.add(event)
    scores = [(e["trial"], e["rung"]) for e in events if e["event"] == "score"]
    assert len(scores) == len(set(scores))


def test_checkpoints_are_copied_before_anyone_goes_on(tmp_path: Path) -> None:
    model = model_of(scheduler={"type": "pbt", "every": "3 steps", "share": "50%"}, trials=4)
    begun: list[int] = []
    legs = driver(tmp_path, model, begun)
    for number in range(4):
        config = legs.suggest(f"t{number}")
        assert isinstance(config, dict)
        assert config["origin"] is None
        legs.on_trial_complete(f"t{number}", score(config))
    assert begun == []
    config = legs.suggest("t4")
    assert len(begun) == 2
    assert isinstance(config, dict)
    moved = legs.history.trials[begun[0]]
    assert moved.stretches[-1].origin is not None
    again: list[int] = []
    driver(tmp_path, model, again)  # the one before died in the middle of copying
    assert again == begun


def test_a_metric_that_no_trial_reports_ends_the_sweep_at_once(tmp_path: Path) -> None:
    legs = driver(tmp_path, model_of(), [])
    legs.suggest("t0")
    reason = "no trial reports loss, by which they are compared; they report nothing"
    legs.on_trial_complete("t0", {"failed": reason, "unscored": True, "seconds": 1.0})
    assert legs.suggest("t1") == "FINISHED"
    assert legs.history.ended == reason
    with pytest.raises(ValueError, match="validation part, and it has no rows"):
        check_scores("m", {"train": {"rows": 5}, "validation": {"rows": 0}})


def test_a_sweep_without_a_score_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, model = LocalStorage(tmp_path), model_of()
    history = History()
    for number, reason in enumerate(("the loss at step 5 is nan", "the loss at step 7 is nan")):
        history.add({"event": "trial", "trial": number, "values": {}})
        failed = {"event": "failed", "trial": number, "rung": 0, "reason": reason}
        history.add(failed | {"seconds": 1.0})
    spec = spec_of(model)
    told = "no trial has a score: the loss at step 5 is nan; mend that, and search with --again"
    monkeypatch.setattr(sweep, "slots_here", lambda *_: None)  # no cluster is asked
    with pytest.raises(UnscoredError, match=told):
        conclude(spec, "m", Run.open(storage, "m", "tune", "0" * 64), history)


def test_the_report_is_renewed_while_a_sweep_runs(tmp_path: Path) -> None:
    storage, model = LocalStorage(tmp_path), model_of(scheduler="none")
    run = Run.open(storage, "m", "tune", "0" * 64)
    live = Live(run, model, [9], Room(1, 1, 2), Pace(10.0, 1.0), None)
    log, ladder = Log(storage, run.id), Ladder(model.tune, model.train, 32)
    legs = Legs(model, ladder, log, live, lambda trial: None)
    live.open(legs.history)
    config = legs.suggest("t0")
    assert isinstance(config, dict)
    legs.on_trial_complete("t0", score(config))
    assert not storage.exists(f"sweeps/{run.id}/report.html")
    live.reported -= 301.0
    config = legs.suggest("t1")
    assert isinstance(config, dict)
    legs.on_trial_complete("t1", score(config))
    assert storage.exists(f"sweeps/{run.id}/report.html")


def test_a_process_that_died_is_a_row_and_money_ends_the_rest(tmp_path: Path) -> None:
    legs = driver(tmp_path, model_of(cost="0.2 USD"), [], Money(36.0, "USD", "h"))
    legs.suggest("t0")
    legs.on_trial_complete("t0", None, error=True)
    assert "process died" in str(legs.history.trials[0].failed)
    for number in (1, 2):
        config = legs.suggest(f"t{number}")
        assert isinstance(config, dict)
        legs.on_trial_complete(f"t{number}", score(config))
    assert legs.suggest("t3") == "FINISHED"
    assert legs.history.ended == "tune.cost: 0.2 USD of 0.2 USD are spent"
    assert replay(Log(LocalStorage(tmp_path), "m-tune-1").read()).ended == legs.history.ended
