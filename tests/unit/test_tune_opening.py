"""How a sweep's log begins: warm starts, and sections that were edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.local_storage import LocalStorage
from cluster.spec import parse_model
from cluster.storage import Storage
from jobs.runs import Run
from jobs.stages import sweep_digest
from tune.history import Log, replay
from tune.opening import differences, open_log
from tune.search import suggest


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A folder: what a sweep asks of a store is tested where stores are."""
    return LocalStorage(tmp_path)


SPACE: dict[str, Any] = {
    "train.optimizer.lr": {"log": [1e-5, 1e-1]},
    "network.style": ["gpt2", "llama"],
}


def model_of(**tune: Any) -> Any:
    section = {"trials": 8, "search": "random", "space": SPACE} | tune
    document = {"domain": "text", "task": "generation", "data": "builtin:python-docs"}
    return parse_model(document | {"tune": section})


def opened(storage: Storage, model: Any, data: str = "d" * 64, again: bool = False) -> Log:
    run = Run.open(storage, "m", "tune", sweep_digest(model, data), again)
    return open_log(run, model, data, again)


def swept(storage: Storage, count: int = 4, data: str = "d" * 64, **tune: Any) -> Log:
    """A sweep that has scored some trials, the second of which failed."""
    model = model_of(**tune)
    log = opened(storage, model, data)
    for number in range(count):
        values = suggest(model.tune, number, replay(log.read()), False)
        log.append({"event": "trial", "trial": number, "values": values})
        common = {"trial": number, "rung": 0, "seconds": 5.0}
        if number == 1:
            log.append(common | {"event": "failed", "reason": "it diverged"})
            continue
        told = {"score": float(number), "step": 7, "run": f"m-train-{number}"}
        log.append(common | told | {"event": "score"})
    return log


def test_a_new_sweep_says_what_it_searches(storage: Storage) -> None:
    log = opened(storage, model_of())
    [first] = log.read()
    assert first["event"] == "sweep"
    assert first["tune"]["trials"] == 8
    assert open_log(Run(storage, log.run), model_of(), "d" * 64, False).read() == [first]


def test_an_edited_space_keeps_the_trials_that_are_its_points(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    before = replay(swept(storage).read())
    low = sorted(before.trials[n].values["train.optimizer.lr"] for n in (0, 2, 3))[1]
    space = SPACE | {"train.optimizer.lr": {"log": [low, 1e-1]}}
    log = opened(storage, model_of(space=space, trials=16))
    text = capsys.readouterr().out
    assert "tune.trials: 8 is now 16" in text
    assert "tune.space.train.optimizer.lr: {log: [1e-05, 0.1]} is now {log: [" in text
    assert "2 of its 3 scored trials are points of this space and count here" in text
    history = replay(log.read())
    assert [t.values["train.optimizer.lr"] >= low for t in history.trials.values()] == [True] * 2
    assert history.taken == 2
    assert history.spent_s == 0
    assert {t.run for t in history.trials.values()} <= {"m-train-0", "m-train-2", "m-train-3"}


@pytest.mark.parametrize(
    ("tune", "reason"),
    [
        ({"seed": 1}, "tune.seed is another"),
        ({"scheduler": {"type": "asha", "grace": "2 epochs"}}, "tune.scheduler is another"),
        ({"scheduler": "pbt"}, "a population is made of all its trials"),
    ],
)
def test_where_going_on_is_not_sound_it_begins_anew(
    storage: Storage, tune: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(storage)
    log = opened(storage, model_of(**tune))
    assert f"this sweep begins anew: {reason}" in capsys.readouterr().out
    assert [event["event"] for event in log.read()] == ["sweep"]


def test_other_data_and_another_search_know_nothing_of_it(storage: Storage) -> None:
    swept(storage)
    assert len(opened(storage, model_of(trials=9), "e" * 64).read()) == 1
    assert len(opened(storage, model_of(trials=9), again=True).read()) == 1


def test_known_points_are_tried_after_what_was_taken_over(storage: Storage) -> None:
    swept(storage)
    model = model_of(points=[{"train.optimizer.lr": 0.002}])
    history = replay(opened(storage, model).read())
    number = len(history.trials)
    values = suggest(model.tune, number, history, False)
    assert values is not None
    assert values["train.optimizer.lr"] == 0.002


def test_a_grid_goes_on_with_what_is_left(storage: Storage) -> None:
    grid = {"search": "grid", "space": {"train.global_batch": [8, 16, 32]}}
    swept(storage, 3, **grid)
    wider = {"search": "grid", "space": {"train.global_batch": [8, 16, 32, 64]}}
    history = replay(opened(storage, model_of(**wider)).read())
    assert [t.values["train.global_batch"] for t in history.trials.values()] == [8, 32]
    found = suggest(model_of(**wider).tune, 2, history, False)
    assert found == {"train.global_batch": 16}


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_a_warm_start_tries_the_best_first_and_learns_from_the_rest(
    storage: Storage, search: str
) -> None:
    earlier = swept(storage, 6, data="e" * 64)
    best = replay(earlier.read()).trials[0].values
    model = model_of(warm_start=earlier.run, search={"type": search, "startup": 1})
    history = replay(opened(storage, model).read())
    assert suggest(model.tune, 0, history, False) == best
    assert len(history.prior) == 5
    cold = suggest(model_of(search={"type": search, "startup": 1}).tune, 1, replay([]), False)
    history.add({"event": "trial", "trial": 0, "values": best})
    warm = suggest(model.tune, 1, history, False)
    assert (warm == cold) == (search == "random")  # tpe has something to learn from


def test_a_warm_start_that_cannot_be_compared(storage: Storage) -> None:
    earlier = swept(storage, data="e" * 64)
    space = {"train.clip": {"uniform": [0.5, 1.0]}}
    with pytest.raises(ValueError, match="none of the 3 trials"):
        opened(storage, model_of(warm_start=earlier.run, space=space))
    with pytest.raises(ValueError, match=rf"no sweep nobody; there are: .*{earlier.run}"):
        opened(storage, model_of(warm_start="nobody"))


def test_differences_are_told_by_key() -> None:
    now = model_of(search="tpe", space=SPACE | {"network.style": ["gpt2"]}, parallel=2).tune
    before = model_of().tune
    found = differences(*(t.model_dump(mode="json", by_alias=True) for t in (before, now)))
    assert found == [
        "tune.search.type: random is now tpe",
        "tune.space.network.style: ['gpt2', 'llama'] is now ['gpt2']",
    ]
