"""A budget on a real cluster: a run is warned of, then stopped; none starts any more."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster import client
from cluster.spec import load
from cluster.storage import open_storage
from jobs.runs import latest_checkpoint
from jobs.spending import OverBudgetError, check_budget
from jobs.usage import usages
from tests.bench.resume import last_step
from tests.bench.samples import LANGUAGE
from tests.clusters import open_run, own_cluster, start_run
from tests.trainings import MODEL

TRAIN = {"steps": 100_000, "global_batch": 4, "workers": 1, "checkpoint": {"every": 100_000}}
# A dollar a second, from the moment that the job begins to prepare.
CLUSTER = {
    "storage": "./store",
    "pools": [{"name": "cpu", "cpus": 2, "price": "3600 USD/h"}],
    "budget": {"runs": "45 USD/day", "warn": "50%"},
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append(content)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a chat is sent."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("SLIPWAY_SECRETS", str(tmp_path / "secrets"))
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets" / "chat"
    secret.touch(0o600)
    secret.write_text(f"http://127.0.0.1:{server.server_port}/hush")
    yield server.got  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_spent_budget_stops_runs_and_lets_none_begin(
    tmp_path: Path, got: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    document = {
        "name": "frugal",
        "cluster": CLUSTER,
        "models": {MODEL: LANGUAGE | {"train": TRAIN}},
        "notify": {"webhook": {"secret": "chat"}, "on": "budget"},
    }
    (tmp_path / "cluster.yaml").write_text(json.dumps(document))
    spec = load(tmp_path / "cluster.yaml")
    storage = open_storage(spec.cluster.storage, spec.name)
    run = open_run(spec)
    with own_cluster(spec, tmp_path / "state") as connection:
        job = start_run(connection, spec, run)
        assert client.wait(connection, job, 150).status == "STOPPED"
        deadline = time.monotonic() + 60
        while len(got) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        again = start_run(connection, spec, run)
        state = client.wait(connection, again, 60)
        assert (state.status, state.exit_code) == ("FAILED", 2)
    assert [each["event"] for each in got] == ["budget", "budget"]
    assert "of 45 USD/day are spent" in got[0]["text"]
    assert f"stopped: {run.id}; no new run starts" in got[1]["text"]
    end = run.end()
    assert end is not None
    assert (end["state"], "the budget is used up" in end["reason"]) == ("stopped", True)
    saved = latest_checkpoint(run)  # none was due: it saved because it was stopped
    assert saved is not None
    assert saved.step == last_step(run) > 0
    assert {usage.stage for usage in usages(storage)} == {"prepare", "train"}
    with pytest.raises(OverBudgetError):
        check_budget(spec, storage)
    printed = "".join(
        storage.read(entry.path).decode() for entry in storage.list(f"{run.path}/logs")
    )
    assert "the budget is used up" in printed
    assert "hush" not in printed
