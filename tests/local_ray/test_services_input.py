"""What services make of input: whole files in every domain, broken files, requests made up."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance, use_after_free

from cluster import local
from jobs.verbs.predict import predict
from serve.reading import READ_TIMEOUT_S
from serve.samples import tone
from tests.broken import broken_files
from tests.fuzzing import fuzzed, wrong_answer
from tests.services import (
    DIGITS,
    FILMS,
    LABELS,
    LANGUAGE,
    VOICE,
    WORDS,
    Served,
    ask,
    picture,
    serving,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = {
        "writer": LANGUAGE | {"serve": {}},
        "labels": LABELS | {"serve": {}},
        "digits": DIGITS | {"serve": {}},
        "words": WORDS | {"serve": {}},
        "voice": VOICE | {"serve": {}},
        "films": FILMS | {"serve": {}},
    }
    with serving(tmp_path_factory.mktemp("input"), models) as found:
        yield found


def write_inputs(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Model -> input file or folder, and parameters."""
    (folder / "new").mkdir()
    for n in range(3):
        (folder / "new" / f"{n}.png").write_bytes(picture())
    (folder / "new" / "broken.png").write_bytes(b"no picture")
    (folder / "spoken").mkdir()
    (folder / "spoken" / "a.wav").write_bytes(tone())
    (folder / "texts.csv").write_text("id,text\n" + "".join(f"{n},open {n}\n" for n in range(3000)))
    (folder / "prompts.txt").write_text("The for statement\nThe while statement\n")
    (folder / "users.csv").write_text("user,city\nu3,Bonn\nnobody,Rome\n")
    return {
        "labels": ("texts.csv", []),
        "digits": ("new", ["top_k=2"]),
        "words": ("spoken", []),
        "films": ("users.csv", ["top_k=3"]),
        "writer": ("prompts.txt", ["max_new_tokens=4", "temperature=0"]),
    }


def test_whole_files_are_answered_in_every_domain(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for model, (source, parameters) in write_inputs(tmp_path).items():
        target = tmp_path / f"{model}.parquet"
        arguments = (model, None, parameters, str(tmp_path / source), str(target))
        assert predict(served.request, *arguments) == 0
        found[model] = pq.read_table(target).to_pylist()
    assert len(found["labels"]) == 3000
    for row in (found["labels"][7], found["labels"][2999]):
        [[best, *_]] = served.ask("/models/labels", {"inputs": row["text"]}).json()
        assert row["prediction"] == best["label"]
        assert row["prediction_score"] == pytest.approx(best["score"], abs=1e-4)
    assert [len(row["prediction"] or []) for row in found["digits"]] == [2, 2, 2, 0]
    assert "no picture" in found["digits"][3]["prediction_error"]
    assert isinstance(found["words"][0]["prediction"], str)
    assert (found["films"][0]["city"], len(found["films"][0]["prediction"])) == ("Bonn", 3)
    assert "unknown user" in found["films"][1]["prediction_error"]
    body = {"inputs": "The for statement", "parameters": {"max_new_tokens": 4, "temperature": 0}}
    [alone] = served.ask("/models/writer", body).json()
    assert found["writer"][0]["prediction"] == alone["generated_text"]
    assert predict(served.request, *arguments) == 0
    assert "done already" in capsys.readouterr().out


def test_files_of_json_and_a_voice(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "yes", "n": 1}\n{"n": 2}\n')
    target = tmp_path / "spoken.jsonl"
    arguments = ("voice", None, [], str(tmp_path / "a.jsonl"), str(target))
    assert predict(served.request, *arguments) == 0
    first, second = map(json.loads, target.read_text().splitlines())
    assert (first["n"], first["prediction"][:4]) == (1, "UklG")  # RIFF
    assert second == {
        "text": None,
        "n": 2,
        "prediction": None,
        "prediction_error": 'no "text"',
    }


@pytest.mark.parametrize("model", ["digits", "words"])
def test_broken_files_are_refused_and_harm_nothing(served: Served, model: str) -> None:
    for name, content in broken_files().items():
        found = served.ask(f"/models/{model}", content, headers={"Content-Type": ""})
        assert found.status in (400, 413, 415, 422), (name, found)
        assert set(found.json()["error"]) == {"type", "message", "code"}


def test_the_description_is_true(served: Served) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    headers = {"Authorization": f"Bearer {served.token}"}
    # A model may refuse what no schema can say, such as a user that it does not know.
    excluded = [positive_data_acceptance, use_after_free]
    names = []
    for operation in schema.get_all_operations():
        described = operation.ok()
        names.append(described.label)

        @given(case=described.as_strategy())
        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
        def check(case: Any) -> None:
            case.call_and_validate(headers=headers, excluded_checks=excluded)

        check()
    assert {f"POST /models/{name}" for name in served.spec.models} <= set(names)


def test_what_nobody_should_send(served: Served) -> None:
    kinds = {"labels": "text", "digits": "image", "words": "audio", "films": "events"}
    for request in fuzzed(3, 150, kinds):
        headers = {"Content-Type": ""} | request.headers
        headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        found = served.ask(request.path, request.body, headers=headers, method=request.method)
        assert not wrong_answer(request, found.status, found.body), request


def test_clients_that_dawdle_or_hang_up_cost_nothing(served: Served) -> None:
    """More of them than a model's queue holds: a byte a second, or gone once they have asked."""
    body = json.dumps({"inputs": "open a socket"}).encode()
    slow = [begin(served, "/models/labels", 1000) for _ in range(100)]
    for gone in [begin(served, "/models/labels", len(body)) for _ in range(100)]:
        gone.sendall(body)
        gone.close()
    began, asked = time.monotonic(), 0
    while time.monotonic() - began < READ_TIMEOUT_S - 2:
        for each in slow:
            each.sendall(b" ")
        sent = time.monotonic()
        assert served.ask("/models/labels", body).status == 200
        assert time.monotonic() - sent < 1
        asked += 1
        time.sleep(max(0.0, 1 - (time.monotonic() - sent)))
    assert asked > 20
    for each in slow:
        each.settimeout(30)
        assert each.recv(100).startswith(b"HTTP/1.1 408 ")
        each.close()


def begin(served: Served, path: str, length: int) -> socket.socket:
    """A connection that has announced a body of so many bytes."""
    host, port = served.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {served.token}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    )
    client.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    return client


def test_the_dashboards_figures_are_exported(served: Served) -> None:
    """Those of the services: Ray's own are not ours to test."""
    served.ask("/models/labels", {"inputs": "open a socket"})
    monitoring = Path(__file__).parents[2] / "k8s" / "monitoring"
    text = "".join((monitoring / name).read_text() for name in ("dashboard.json", "alerts.yaml"))
    wanted = set(re.findall(r"ray_slipway_\w+", text))
    targets = local.home_of(served.spec).temp() / "prom_metrics_service_discovery.json"
    deadline = time.monotonic() + 90
    while missing := {name for name in wanted if f"\n{name}" not in exported(targets)}:
        assert time.monotonic() < deadline, missing
        time.sleep(2)


def exported(targets: Path) -> str:
    """What Prometheus would read."""
    if not targets.exists():
        return ""
    found = ""
    for address in {a for each in json.loads(targets.read_text()) for a in each["targets"]}:
        with contextlib.suppress(OSError):
            found += "\n" + ask(f"http://{address}/metrics").body.decode()
    return found
