"""The gate, what it compares with, what it records, and the way back without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.request import REFUSED, Request
from cluster.spec.serving import PromoteSpec
from cluster.storage import Storage
from jobs import promotion
from jobs.bundles import BundleError, Version, aliases, record_evaluation, resolve, set_alias
from jobs.promotion import PromotionError, decide, is_judged, promote, roll_back, unscored
from jobs.runs import Run
from jobs.verbs import promotions, stages
from jobs.verbs.work import describe
from tests.fake_domain import put_data, put_version

YAML = """\
name: acme
cluster: {{storage: {store}}}
models:
  tickets:
    domain: text
    task: generation
    data: {{source: "builtin:python-docs", split: {{test: 10%}}}}
    promote: {{if: "{gate}", to: production}}
"""


def gate(text: str | None = None, to: str = "production") -> PromoteSpec:
    return PromoteSpec.model_validate({"to": to} | ({"if": text} if text else {}))


def scored(storage: Storage, version: Version, like: Version, **metrics: float) -> Version:
    data = like.bundle["data"]
    record_evaluation(
        storage, version, f"{data}-test", {"split": "test", "data": data, "metrics": metrics}
    )
    return resolve(storage, version.name)


class Scorer:
    """Scores versions with given figures and remembers whom it scored on whose data."""

    def __init__(self, storage: Storage, **metrics: float) -> None:
        self.storage, self.metrics = storage, metrics
        self.asked: list[tuple[str, str]] = []

    def __call__(self, version: Version, like: Version) -> None:
        self.asked.append((version.name, like.name))
        scored(self.storage, version, like, **self.metrics)


@pytest.fixture
def storage(local_address: Any) -> Storage:
    from cluster.storage import open_storage

    return open_storage(local_address, "acme")


def test_first_version_needs_no_incumbent(storage: Storage) -> None:
    version = put_version(storage, put_data(storage, "d1"))
    scored(storage, version, version, accuracy=0.91, p99_ms=3.0)
    condition = gate("accuracy >= 0.9 and p99_ms <= 50 and accuracy >= production.accuracy")
    decision = promote(storage, version, condition, Scorer(storage), "test")
    assert decision.holds
    move = aliases(storage, "tickets")["production"].history[0]
    assert (move["version"], move["from"], move["why"]) == (1, None, "test")
    assert "@" in move["who"]
    assert move["compared"]["terms"] == {
        "accuracy": 0.91,
        "p99_ms": 3.0,
        "production.accuracy": None,
    }
    assert move["compared"]["gate"] == str(condition.condition)
    assert "open, nothing to compare with" in " ".join(decision.lines())
    assert is_judged(storage, version, condition)


def test_no_means_no_move(storage: Storage) -> None:
    version = put_version(storage, put_data(storage, "d1"))
    scored(storage, version, version, accuracy=0.7)
    decision = promote(storage, version, gate("accuracy >= 0.9"), Scorer(storage), "test")
    assert not decision.holds
    assert aliases(storage, "tickets") == {}
    assert "accuracy >= 0.9: 0.7 >= 0.9 fails" in decision.lines()[1]
    assert storage.read_json("models/tickets/1/judgements/production.json")["promoted"] is False


def test_the_incumbent_is_scored_on_the_same_data(storage: Storage) -> None:
    old = put_version(storage, put_data(storage, "d1"))
    scored(storage, old, old, accuracy=0.99)
    set_alias(storage, "tickets", "production", 1, "ann", "")
    new = put_version(storage, put_data(storage, "d2"))
    condition = gate("accuracy > production.accuracy")
    assert [(a.name, b.name) for a, b in unscored(storage, new, condition)] == [
        ("tickets@2", "tickets@2"),
        ("tickets@1", "tickets@2"),
    ]
    new = scored(storage, new, new, accuracy=0.8)
    with pytest.raises(PromotionError, match=r"tickets@1 was not scored .* tickets@2"):
        decide(storage, new, condition)
    scorer = Scorer(storage, accuracy=0.7)  # worse than its 0.99 on its own, older data
    decision = promote(storage, new, condition, scorer, "test")
    assert scorer.asked == [("tickets@1", "tickets@2")]
    assert decision.holds
    assert (decision.previous, decision.compared["holders"]) == (1, {"production": 1})
    again = promote(storage, new, condition, scorer, "test")
    assert again.held
    assert len(aliases(storage, "tickets")["production"].history) == 2


def test_clear_errors(storage: Storage) -> None:
    version = put_version(storage, put_data(storage, "d1"))
    version = scored(storage, version, version, accuracy=0.9)
    with pytest.raises(PromotionError, match=r'"recall", which was not measured.*: accuracy'):
        decide(storage, version, gate("recall > 0.5"))
    with pytest.raises(PromotionError, match="divides by 0"):
        decide(storage, version, gate("accuracy / 0 > 1"))
    with pytest.raises(PromotionError, match="cannot be an alias"):
        promote(storage, version, gate(to="latest"), Scorer(storage), "")
    splits = {"train": {"rows": 60}, "validation": {"rows": 60}, "test": {"rows": 0}}
    untested = put_version(storage, put_data(storage, "d2", splits=splits))
    with pytest.raises(PromotionError, match=r"data\.split\.test"):
        decide(storage, untested, gate("accuracy > 0.5"))
    assert decide(storage, untested, gate()).holds


def test_changed_files_are_refused(storage: Storage) -> None:
    version = put_version(storage, put_data(storage, "d1"))
    storage.write(f"{version.path}/shift", b"9")
    with pytest.raises(BundleError, match=r"tickets@1: shift has changed"):
        promote(storage, version, gate(), Scorer(storage), "")
    assert aliases(storage, "tickets") == {}


def test_a_faster_promotion_is_compared_with(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = put_version(storage, put_data(storage, "d1"))
    second = put_version(storage, "d1")
    scored(storage, first, first, accuracy=0.9)
    scored(storage, second, second, accuracy=0.8)
    real, raced = promotion.decide, []

    def slow(*given: Any) -> Any:
        decision = real(*given)
        if not raced:
            raced.append(True)
            set_alias(storage, "tickets", "production", 1, "bob", "faster")
        return decision

    monkeypatch.setattr(promotion, "decide", slow)
    decision = promote(storage, second, gate("accuracy > production.accuracy"), Scorer(storage), "")
    assert not decision.holds
    assert aliases(storage, "tickets")["production"].number == 1


def test_rollback_goes_back_step_by_step(storage: Storage) -> None:
    put_data(storage, "d1")
    versions = [put_version(storage, "d1") for _ in range(3)]
    for version in versions:
        promote(storage, version, gate(), Scorer(storage), "")
    found, left = roll_back(storage, "tickets", "production", None, "bad answers")
    assert (found.number, left) == (2, 3)
    assert roll_back(storage, "tickets", "production", None, "worse")[0].number == 1
    with pytest.raises(PromotionError, match="no version of tickets was production before"):
        roll_back(storage, "tickets", "production", None, "")
    assert roll_back(storage, "tickets", "production", "3", "undo")[0].number == 3
    history = aliases(storage, "tickets")["production"].history
    assert [move["version"] for move in history] == [1, 2, 3, 2, 1, 3]
    assert history[3]["why"] == "bad answers"
    assert is_judged(storage, resolve(storage, "tickets@2"), gate())
    with pytest.raises(PromotionError, match="has no candidate"):
        roll_back(storage, "tickets", "candidate", None, "")


def test_a_version_that_came_back_has_its_predecessor(storage: Storage) -> None:
    put_data(storage, "d1")
    for _ in range(2):
        put_version(storage, "d1")
    for number in (1, 2, 1):
        set_alias(storage, "tickets", "production", number, "ann", "")
    assert roll_back(storage, "tickets", "production", None, "")[0].number == 2


def test_verbs(
    storage: Storage,
    local_address: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(YAML.format(store=local_address.url, gate="loss <= 2"))
    request = Request(file=file)
    first = put_version(storage, put_data(storage, "d1"))
    scored(storage, first, first, loss=1.5)
    assert promotions.promote(request, "tickets", None) == 0
    assert "tickets@1 is production now" in capsys.readouterr().out
    second = put_version(storage, "d1")

    def evaluate(*given: Any) -> None:
        scored(storage, second, second, loss=2.5)

    monkeypatch.setattr(promotions, "_evaluate", evaluate)
    assert promotions.promote(request, "tickets", None) == REFUSED
    out = capsys.readouterr().out
    assert "loss <= 2: 2.5 <= 2 fails" in out
    file.write_text(YAML.format(store=local_address.url, gate="loss <= 3"))
    assert promotions.promote(Request(file=file, json=True), "tickets@2", "candidate") == 0
    assert '"alias": "candidate"' in capsys.readouterr().out
    assert promotions.promote(request, "tickets@2", None) == 0
    promotions.rollback(request, "tickets", None, "slow")
    assert "undo: slipway rollback tickets 2" in capsys.readouterr().out
    assert resolve(storage, "tickets@production").number == 1


def test_a_run_whose_gate_is_all_that_is_left_needs_no_cluster(
    storage: Storage, local_address: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(YAML.format(store=local_address.url, gate="loss <= 2"))
    request = Request(file=file)
    spec = request.spec()
    version = put_version(storage, put_data(storage, "d1"))
    run = Run(storage, version.bundle["run"])
    condition = spec.model("tickets").promote
    assert condition is not None
    for until, done in (("train", True), ("evaluate", False), ("promote", False)):
        assert (stages._done(storage, run, until, spec) is not None) is done
    version = scored(storage, version, version, loss=2.5)
    assert stages._done(storage, run, "promote", spec) == version
    assert promotions.settle(request, spec, version, condition, run.id) == REFUSED
    found = describe(run)
    assert found["gates"][0]["promoted"] is False
    assert found["evaluation"]["metrics"] == {"loss": 2.5}
    version = scored(storage, version, version, loss=1.5)
    assert promotions.settle(request, spec, version, condition, run.id) == 0
    second = put_version(storage, "d1")
    set_alias(storage, "tickets", "production", second.number, "ann", "by hand")
    capsys.readouterr()
    assert promotions.settle(request, spec, resolve(storage, "tickets@1"), condition, "") == 0
    assert "became production before, under this gate" in capsys.readouterr().out
    assert resolve(storage, "tickets@production").number == 2
