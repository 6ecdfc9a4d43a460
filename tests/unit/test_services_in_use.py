"""Which services `down` must not end without being told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster import api, client, local, services
from cluster.connection import Connection
from cluster.request import Request, WrongRequestError
from cluster.spec import Spec, load
from cluster.verbs import down

NOW = 1_000_000.0
HERE = Connection("acme", "", "http://127.0.0.1:1")


def details(**deployed: float) -> dict[str, Any]:
    return {
        "applications": {
            name: {"status": "RUNNING", "last_deployed_time_s": NOW - age}
            for name, age in deployed.items()
        }
    }


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    (tmp_path / "cluster.yaml").write_text("name: acme\ncluster: {storage: ./s}\n")
    return load(tmp_path / "cluster.yaml")


def answered(monkeypatch: pytest.MonkeyPatch, **ages: float | None) -> None:
    versions = {f"{n}@1": {"last": None if a is None else NOW - a} for n, a in ages.items()}
    monkeypatch.setattr(services, "ask", lambda *_, **__: ("", {"versions": versions}))


def test_those_that_answered_within_the_hour(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    found = details(busy=9000, quiet=9000, never=9000, fresh=60)
    monkeypatch.setattr(api, "get", lambda *_, **__: found)
    answered(monkeypatch, busy=3500, quiet=3700, never=None)
    assert services.in_use(HERE, spec, NOW) == ["busy", "fresh"]


def test_those_that_do_not_say(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "get", lambda *_, **__: details(a=9000, b=9000))

    def silent(*_: Any, **__: Any) -> Any:
        raise services.NoServiceError("nothing answers")

    monkeypatch.setattr(services, "ask", silent)
    assert services.in_use(HERE, spec, NOW) == ["a", "b"]


def test_no_services_are_not_asked(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "get", lambda *_, **__: {})
    assert services.in_use(HERE, spec, NOW) == []


def test_down_ends_what_nobody_uses_and_asks_for_the_rest(
    spec: Spec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "find", lambda spec: HERE)
    monkeypatch.setattr(local, "stop", lambda *_: ended.append(True) or [])
    monkeypatch.setattr(client, "jobs", lambda connection: [])
    monkeypatch.setattr(api, "get", lambda *_, **__: details(tickets=1e6 - 1))
    ended: list[bool] = []
    monkeypatch.setattr(services.time, "time", lambda: NOW)
    request = Request(file=tmp_path / "cluster.yaml")
    answered(monkeypatch, tickets=10)
    with pytest.raises(WrongRequestError, match="tickets; slipway stop MODEL"):
        down(request)
    assert not ended
    answered(monkeypatch, tickets=4000)
    down(request)
    assert ended
