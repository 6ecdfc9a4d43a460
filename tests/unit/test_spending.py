"""Node hours as they are kept, and the money that they were."""

from __future__ import annotations

import calendar
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.request import Request
from cluster.spec import Spec, load
from cluster.storage import Storage, encode_json, open_storage
from jobs import usage
from jobs.runs import Run
from jobs.spending import OverBudgetError, UnpricedError, check_budget, spent, summed
from jobs.usage import Usage, first_attempt, metered, usages
from jobs.verbs.cost import cost
from jobs.verbs.plan_price import show_price

NOW = float(calendar.timegm((2026, 11, 25, 12, 0, 0)))
YAML = """\
name: acme
cluster:
  pools: [{{name: gpu, nodes: 0..4, accelerators: H100:8, price: 30 USD/h}}]
  {budget}
models:
  m: {{domain: text, task: generation, data: builtin:python-docs, train: {{workers: 16}}}}
"""


def make(folder: Path, budget: str = "") -> tuple[Spec, Storage]:
    (folder / "cluster.yaml").write_text(YAML.format(budget=budget))
    spec = load(folder / "cluster.yaml")
    return spec, open_storage(spec.cluster.storage, spec.name)


def put(storage: Storage, began: float, hours: float, **changed: Any) -> None:
    content: dict[str, Any] = {
        "run": "m-train-1",
        "submission": "s",
        "model": "m",
        "stage": "train",
    }
    content |= {"pool": "gpu", "nodes": 2, "began": began, "until": began + hours * 3600}
    content |= {"price": 30.0, "currency": "USD"} | changed
    month = time.strftime("%Y-%m", time.gmtime(began))
    storage.write(f"usage/{month}/{content['run']}-{began}.json", encode_json(content))


def test_a_block_is_metered_from_its_first_attempt(tmp_path: Path) -> None:
    spec, storage = make(tmp_path)
    run = Run.open(storage, "m", "train", "ab" * 32)
    run.next_attempt({"resumes": None})
    with metered(spec, run, "train", 16, first_attempt(run), tick_s=0.01):
        time.sleep(0.05)
        assert usages(storage) == []  # its nodes are waited for
        run.next_attempt({"resumes": None})
        started = float(run.attempts()[-1].info["started"])
        time.sleep(0.1)
        [first] = usages(storage)
        assert first.until > started
    [found] = usages(storage)
    assert found.until >= first.until
    assert (found.nodes, found.pool, found.stage, found.price) == (2, "gpu", "train", 30.0)
    assert found.began == started
    assert found.node_hours() == pytest.approx(2 * (found.until - started) / 3600)


def test_nodes_that_come_are_noticed_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "ARRIVING_S", 0.01)
    spec, storage = make(tmp_path)
    run = Run.open(storage, "m", "train", "ab" * 32)
    with metered(spec, run, "train", 16, first_attempt(run), tick_s=3600):
        time.sleep(0.03)
        run.next_attempt({"resumes": None})
        deadline = time.monotonic() + 5
        while not usages(storage) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(usages(storage)) == 1


def test_what_failed_is_kept_too(tmp_path: Path) -> None:
    spec, storage = make(tmp_path)
    run = Run.open(storage, "m", "train", "ab" * 32)
    with pytest.raises(ValueError, match="boom"), metered(spec, run, "prepare"):
        raise ValueError("boom")
    [found] = usages(storage)
    assert (found.stage, found.nodes) == ("prepare", 1)


def test_only_the_period_counts(tmp_path: Path) -> None:
    spec, storage = make(tmp_path, "budget: {runs: 1000 USD/month, warn: 50%}")
    put(storage, NOW - 60 * 86400, 100)
    first_of_month = float(calendar.timegm((2026, 11, 1, 0, 0, 0)))
    put(storage, first_of_month - 3600, 2)  # an hour of it in this month: 2 nodes x 30 USD
    put(storage, NOW - 86400, 5)
    found = spent(spec, storage, NOW)
    assert found is not None
    assert found.amount == pytest.approx(60 + 300)
    assert not found.is_near
    put(storage, NOW - 7200, 2, run="m-train-2", price=None, currency=None, pool="gone")
    found = spent(spec, storage, NOW)
    assert found is not None
    assert found.unpriced_hours == pytest.approx(4)
    put(storage, NOW - 7300, 3, run="m-train-3")
    found = spent(spec, storage, NOW)
    assert found is not None
    assert found.is_near
    assert not found.is_over
    assert str(found).startswith("540.00 of 1000 USD/month are spent (54%), without 4.0 node hours")


def test_no_new_run_starts_on_a_spent_budget(tmp_path: Path) -> None:
    spec, storage = make(tmp_path, "budget: 100 USD")
    check_budget(spec, storage)
    put(storage, NOW, 2)
    with pytest.raises(OverBudgetError, match=r"120.00 of 100 USD are spent \(120%\); raise"):
        check_budget(spec, storage)
    spec, storage = make(tmp_path)
    check_budget(spec, storage)


@pytest.mark.parametrize(
    ("pools", "budget", "said"),
    [
        (
            "[{name: gpu, price: 30 USD/h}]",
            "10 EUR",
            "pool gpu is known in USD only; say it: price: ",
        ),
        ("[{name: a, price: 1 USD/h}, {name: b}]", "10 USD", "the price of pool b is not known"),
        ("[]", "10 USD", "nobody says what this machine costs; name it: pools:"),
    ],
)
def test_no_run_starts_on_a_budget_that_would_never_be_used_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pools: str, budget: str, said: str
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"name: acme\ncluster: {{pools: {pools}, budget: {budget}}}\n")
    spec = load(path)
    with pytest.raises(UnpricedError, match=re.escape(said)):
        check_budget(spec, open_storage(spec.cluster.storage, spec.name))
    show_price(Request(file=path), spec, {})
    assert said in capsys.readouterr().out


def test_cost_is_told_by_model_and_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, storage = make(tmp_path, "budget: 1000 USD")
    put(storage, NOW, 2)
    put(storage, NOW + 1, 1, run="m-train-2", price=None, currency=None)  # by today's price
    put(storage, NOW + 2, 1, stage="evaluate", nodes=1)
    rows = summed(spec, usages(storage))
    assert [(row["stage"], row["runs"], row["node_hours"], row["cost"]) for row in rows] == [
        ("evaluate", 1, 1.0, 30.0),
        ("train", 2, 6.0, 180.0),
    ]
    cost(Request(file=tmp_path / "cluster.yaml"))
    told = capsys.readouterr().out
    assert "7.00 node hours, 210.00 USD in all" in told
    assert "210.00 of 1000 USD are spent (21%)" in told
    cost(Request(file=tmp_path / "cluster.yaml", json=True))
    assert json.loads(capsys.readouterr().out)["budget"]["share"] == pytest.approx(0.21)


def test_a_part_without_a_price_leaves_the_sum_unknown(tmp_path: Path) -> None:
    spec, _ = make(tmp_path)
    known = Usage("r", "s", "m", "train", "gpu", 1, 0, 3600, 5.0, "USD")
    unknown = Usage("r", "s", "m", "train", None, 1, 0, 3600)
    assert summed(spec, [known, unknown])[0]["cost"] is None
