"""What `slipway plan` says before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.plan import memory_plan, resolved_stage
from cluster.request import Request
from cluster.spec import Spec, load
from cluster.storage import Storage, open_storage
from jobs.calibration import marks
from jobs.forecast import forecast
from jobs.placement import place
from jobs.runs import Run
from jobs.verbs.plan import plan
from tests.fake_domain import put_version

TEXT: dict[str, Any] = {
    "domain": "text",
    "task": "classification",
    "data": {"source": "tickets.csv", "columns": {"text": "body", "label": "queue"}},
}
BERT = {"type": "bert", "layers": 2, "width": 32, "heads": 2, "context": 24}
GPUS = {
    "provider": {"type": "aws"},
    "storage": "./store",
    "pools": [{"name": "gpu", "nodes": "0..2", "accelerators": "H100:8"}],
    "budget": "100 USD/month",
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    lines = [f"text {i},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "tickets.csv").write_text("body,queue\n" + "\n".join(lines) + "\n")


def write(folder: Path, models: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    path = folder / "cluster.yaml"
    document = {"name": "acme", "cluster": cluster or {"storage": "./store"}, "models": models}
    path.write_text(json.dumps(document))
    return path


def planned(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    plan(Request(file=path, json=True))
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def opened(path: Path) -> tuple[Spec, Storage]:
    spec = load(path)
    return spec, open_storage(spec.cluster.storage, spec.name)


def test_a_start_that_is_not_trained_yet_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = TEXT | {"task": "masked-lm", "network": BERT}
    first["data"] = {
        "source": "tickets.csv",
        "columns": {"text": "body"},
        "tokenizer": {"size": 300},
    }
    second = TEXT | {"network": {"pretrained": "mybert@latest"}}
    path = write(tmp_path, {"mybert": first, "tickets": second})
    found = planned(path, capsys)
    states = {(s["model"], s["stage"]): s["state"] for s in found["stages"]}
    assert states["mybert", "train"] == "to do"
    assert states["tickets", "prepare"] == states["tickets", "train"] == "waits for mybert@latest"
    # the network is the one that mybert will train, with the head of classification
    own = load(
        write(
            tmp_path,
            {
                "tickets": TEXT
                | {"network": BERT, "data": TEXT["data"] | {"tokenizer": {"size": 300}}}
            },
        )
    )
    alone = memory_plan(own, "tickets")
    assert alone is not None
    assert found["memory_bytes"]["tickets"]["parameters"] == alone.parameters


def test_a_start_that_is_trained_tells_the_size(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"tickets": TEXT | {"network": {"pretrained": "old@latest"}}, "old": TEXT}
    )
    spec, storage = opened(path)
    kept = TEXT | {"network": BERT | {"layers": 5}}
    put_version(storage, "d" * 8, model="old", spec=kept)
    memory = forecast(spec, "tickets", storage).memory
    assert memory is not None
    assert memory.shape.layers == 5  # type: ignore[union-attr]


def test_autos_stage_counts_the_catalogue(tmp_path: Path) -> None:
    model = {
        "domain": "recommendation",
        "task": "next-item",
        "data": {"source": "events.csv"},
        "network": {"type": "sasrec", "width": 64},
        "train": {"workers": 4},
    }
    pool = {"name": "cpu", "cpus": 4, "memory": "24Gi"}
    spec = load(write(tmp_path, {"m": model}, {"storage": "./store", "pools": [pool]}))
    sizes = dict.fromkeys(("users", "items", "trained_users", "trained_items"), 2_000_000)
    small, large = sizes | {"trained_items": 1000}, sizes | {"trained_items": 10_000_000}
    assert resolved_stage(spec, "m", 4, small) == 0
    # 640 million parameters: 4 bytes, and 4 + 12 of them a quarter, are within 90 % of 6 GiB
    assert resolved_stage(spec, "m", 4, large) == 2
    assert place(spec, "m", large).stage == 2
    assert place(spec, "m").stage == 0


def test_an_earlier_run_tells_the_time(tmp_path: Path) -> None:
    path = write(tmp_path, {"tickets": TEXT | {"network": BERT, "train": {"steps": 7200}}})
    spec, storage = opened(path)
    model = spec.model("tickets")
    guess = forecast(spec, "tickets", storage).speed
    assert guess is not None
    assert not guess.is_measured
    run = Run.open(storage, "tickets", "train", "ab" * 32)
    info = {"resumes": None, "workers": 1} | marks(spec, model, "cpu")
    number = run.next_attempt(info)
    lines = [{"step": i, "time": 1000 + 0.5 * i, "step_s": 0.4} for i in range(1, 21)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    storage.write(f"{run.path}/{number}/metrics.jsonl", text.encode())
    found = forecast(spec, "tickets", storage)
    assert found.speed is not None
    assert found.speed.how == f"measured in {run.id}"
    assert found.hours == pytest.approx(1.0)
    other = load(write(tmp_path, {"tickets": TEXT | {"network": BERT | {"layers": 3}}}))
    assert not forecast(other, "tickets", storage).speed.is_measured  # type: ignore[union-attr]
    double = load(path, None, ("models.tickets.train.global_batch=64",))
    write(tmp_path, {"tickets": TEXT | {"network": BERT, "train": {"steps": 7200}}})
    double = load(path, None, ("models.tickets.train.global_batch=64",))
    assert forecast(double, "tickets", storage).hours == pytest.approx(2.0)


def test_price_and_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpt = {
        "domain": "text",
        "task": "generation",
        "data": "builtin:python-docs",
        "network": {"type": "gpt", "layers": 32, "heads": 32, "width": 4096, "context": 2048},
        "train": {"steps": 1000, "global_batch": 512, "micro_batch": 1, "workers": 16},
    }
    cluster = GPUS | {"storage": "s3://bucket/x"}
    spec = load(write(tmp_path, {"big": gpt}, cluster))
    (tmp_path / "folder").mkdir()
    storage = open_storage(type("A", (), {"url": str(tmp_path / "folder")})(), "acme")  # type: ignore[arg-type]
    found = forecast(spec, "big", storage)
    assert (found.nodes, found.workers) == (2, 16)
    assert found.speed is not None
    assert found.speed.how == "from FLOPs at 40% of the peak, not measured"
    # 6.6e9 parameters, 512 x 2048 tokens: about 4.6e16 a step on 16 x 989e12 x 40 %
    assert found.hours == pytest.approx(1000 * 4.6e16 / (16 * 989e12 * 0.4) / 3600, rel=0.1)
    assert found.per_hour == pytest.approx(2 * 55.04 + 0.1008)
    total, spot = found.total(), found.total("spot")
    assert total == pytest.approx(found.per_hour * found.hours)
    assert spot is not None
    assert spot < total / 3
    from jobs.verbs.plan_price import price_document, show_price

    document = price_document(spec, {"big": found})
    assert document["price"] == total
    assert document["hours"] == found.hours
    show_price(Request(), spec, {"big": found})
    assert f"this takes {total / 100:.0%} of it: runs are saved" in capsys.readouterr().out


def test_the_json_has_what_the_contract_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = planned(write(tmp_path, {"tickets": TEXT | {"network": BERT}}), capsys)
    assert {"stages", "memory_bytes", "hours", "price"} <= set(found)
    assert found["hours"] is None
    assert found["price"] is None
    assert found["models"]["tickets"]["step_s"] > 0
    memory = found["memory_bytes"]["tickets"]
    assert memory["why"].startswith("with one worker there is nothing to divide")
    assert set(memory["stages"]) == {"0", "1", "2", "3"}


def test_notes_on_first_requests_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, {"tickets": TEXT | {"network": BERT}})
    assert planned(path, capsys)["notes"] == {}
    monkeypatch.setattr("jobs.verbs.plan.slow_starts", lambda spec: {"tickets": "it waits"})
    plan(Request(file=path))
    assert "it waits" in capsys.readouterr().out
