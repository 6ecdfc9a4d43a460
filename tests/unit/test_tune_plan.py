"""What a sweep takes, before it starts, and what could never run."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.plan import num_nodes
from cluster.request import Request
from cluster.spec import Range, Spec, load
from cluster.speed import Speed
from cluster.storage import open_storage
from jobs.forecast import forecast
from tune.cost import trial_price
from tune.plan import plan_sweep
from tune.room import fitted, room_of, shared_out
from tune.verbs import plan, run, takes, tune

MODEL: dict[str, Any] = {
    "domain": "text",
    "task": "classification",
    "data": {"source": "tickets.csv", "columns": {"text": "body", "label": "queue"}},
    "network": {"type": "bert", "layers": 2, "width": 32, "heads": 2, "context": 24},
    "train": {"epochs": 9, "global_batch": 12},
    "tune": {"trials": 9, "space": {"train.optimizer.lr": {"log": [1e-5, 1e-2]}}},
}
RAY = {"type": "ray", "address": "127.0.0.1:8265"}
GPUS = {"name": "gpu", "nodes": "0..2", "accelerators": "H100:2", "price": "7.2 USD/h"}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    lines = [f"text {i},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "tickets.csv").write_text("body,queue\n" + "\n".join(lines) + "\n")


def write(folder: Path, cluster: dict[str, Any] | None = None, **sections: Any) -> Path:
    model = MODEL | {key: MODEL[key] | value for key, value in sections.items()}
    path = folder / "cluster.yaml"
    cluster = {"storage": "./store", **(cluster or {"head": {"cpus": 4}})}
    path.write_text(json.dumps({"cluster": cluster, "models": {"tickets": model}}))
    return path


def loaded(folder: Path, cluster: dict[str, Any] | None = None, **sections: Any) -> Spec:
    return load(write(folder, cluster, **sections))


def planned(spec: Spec, rows: int | None, speed: Speed | None = None) -> Any:
    storage = open_storage(spec.cluster.storage, spec.name)
    found = forecast(spec, "tickets", storage, None, rows)
    return plan_sweep(
        spec, "tickets", rows, found if speed is None else replace(found, speed=speed)
    )


def test_trials_at_each_rung_time_and_price(tmp_path: Path) -> None:
    pools = {"pools": [GPUS]}
    found = planned(loaded(tmp_path, pools), 120, Speed(1.0, "measured", True))
    (_, first), (_, second), (_, last) = found.rungs
    assert [until for until, _ in found.rungs] == ["step 10", "step 30", "step 90"]
    assert first == 9
    assert 3 <= second <= 5  # a trial that comes early is judged by few
    assert 1 <= last <= 2
    assert found.steps == 9 * 10 + second * 20 + last * 60
    assert found.room.parallel == 4
    seconds = (9 + second + last) * 12 + found.steps
    assert found.seconds == pytest.approx(seconds / 4)
    assert found.price.value == pytest.approx(seconds / 3600 * 3.6, abs=1e-3)


def test_trials_that_share_an_accelerator(tmp_path: Path) -> None:
    spec = loaded(tmp_path, {"pools": [GPUS]}, train={"accelerator_share": "25%"})
    assert room_of(spec, "tickets").parallel == 9  # as many as there are; 16 would fit
    price = trial_price(spec, "tickets", 1)
    assert price is not None
    assert price.value == pytest.approx(7.2 / 8)
    assert num_nodes(spec, spec.model("tickets"), 9) == 2


def test_before_the_data_is_counted(tmp_path: Path) -> None:
    found = planned(loaded(tmp_path), None)
    assert [until for until, _ in found.rungs] == ["1 epoch", "3 epochs", "9 epochs"]
    assert found.steps is None
    steps = planned(loaded(tmp_path, tune={"scheduler": {"type": "asha", "grace": 30}}), None)
    assert steps.rungs == [("unknown before the data is prepared", 9)]
    told = loaded(tmp_path, train={"epochs": None, "steps": 90}, tune={"scheduler": "none"})
    assert planned(told, None).rungs == [("step 90", 9)]


def test_a_grid_has_no_more_trials_than_points(tmp_path: Path) -> None:
    section = {"search": "grid", "space": {"train.global_batch": [12, 24]}, "trials": 32}
    found = planned(loaded(tmp_path, tune=section), 120)
    assert found.trials == 2
    assert found.rungs[0] == ("step 10", 2)


def test_a_population_trains_whole(tmp_path: Path) -> None:
    scheduler = {"type": "pbt", "every": "3 epochs"}
    found = planned(loaded(tmp_path, tune={"scheduler": scheduler}), 120)
    assert found.rungs == [("step 30", 9), ("step 60", 9), ("step 90", 9)]


def test_the_verb_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    spec = load(path)
    storage = open_storage(spec.cluster.storage, spec.name)
    assert takes(spec, "tickets", storage, "d" * 64).text.startswith("4 trials at a time")
    plan(Request(file=path))
    text = capsys.readouterr().out
    assert "9 trials by tpe, scheduler asha" in text
    assert "4 trials at a time, 1 worker each; the cluster holds 4" in text
    plan(Request(file=path, json=True))
    found = json.loads(capsys.readouterr().out)
    assert [stage["stage"] for stage in found["stages"]] == ["prepare", "tune", "evaluate"]
    section = found["models"]["tickets"]["tune"]
    assert section["rungs"][0] == {"until": "1 epoch", "trials": 9}


@pytest.mark.parametrize("cpus", [1, 2, 3, 4])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("parallel", [1, 2, 3, 4])
def test_every_combination_fits_or_is_refused(
    cpus: int, workers: int, parallel: int, tmp_path: Path
) -> None:
    path = write(
        tmp_path, {"head": {"cpus": cpus}}, train={"workers": workers}, tune={"parallel": parallel}
    )
    began = time.monotonic()
    if workers > cpus:
        with pytest.raises(ValueError, match=f"{workers} workers, but the cluster has room for"):
            plan(Request(file=path))
    else:
        spec = load(path)
        room = room_of(spec, "tickets")
        assert room.workers == workers
        assert room.parallel == min(parallel, cpus // workers)
        each = shared_out(spec, "tickets", room).model("tickets").train.cpus_per_worker
        assert room.parallel * workers * float(each) <= cpus
    assert time.monotonic() - began < 10


def test_a_range_of_workers_takes_what_fits(tmp_path: Path) -> None:
    spec = loaded(tmp_path, {"head": {"cpus": 2}}, train={"workers": "1..3"})
    assert room_of(spec, "tickets").workers == 2
    open_ended = loaded(tmp_path, {"provider": RAY}, train={"workers": "1..6"})
    room = room_of(open_ended, "tickets", slots=3)
    assert (room.workers, room.parallel) == (3, 1)
    assert fitted(open_ended, "tickets", room).model("tickets").train.workers == Range(1, 3)
    fixed = loaded(tmp_path, {"head": {"cpus": 2}}, train={"workers": "2..3", "global_batch": 9})
    with pytest.raises(ValueError, match=r"takes 3 workers .* holds 2 at most"):
        room_of(fixed, "tickets")
    for verb in (
        lambda: run(Request(file=fixed.root / "cluster.yaml"), None, "serve", False),
        lambda: tune(Request(file=fixed.root / "cluster.yaml"), "tickets", False),
    ):
        with pytest.raises(ValueError, match="no trial could ever start"):
            verb()


def test_a_cost_needs_a_price_in_its_currency(tmp_path: Path) -> None:
    section = {"cost": "5 USD"}
    with pytest.raises(ValueError, match="only where a price is known"):
        planned(loaded(tmp_path, tune=section), 120)
    euros = {"pools": [GPUS | {"price": "7 EUR/h"}]}
    with pytest.raises(ValueError, match="nodes are paid in EUR"):
        planned(loaded(tmp_path, euros, tune=section), 120)


def test_an_earlier_sweep_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, tune={"warm_start": "tickets-tune-1234"})
    with pytest.raises(ValueError, match=r"no sweep tickets-tune-1234; there are: none yet"):
        plan(Request(file=path))
