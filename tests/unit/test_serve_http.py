"""Every route against what clients send: answers in the right shape, and errors in ours."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serve.figures import Collected
from tests.fakes import FakeLoaded, as_app, fake_front

TOKEN = {"Authorization": "Bearer right"}
TEXT = ("text", "classification")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(mode=0o600)
    path.write_text("alice right\n")
    return path


def client(tokens: Path, kind: tuple[str, str] = TEXT, loaded: Any = None) -> TestClient:
    front, _ = fake_front(tokens, loaded or FakeLoaded(), kind)
    return TestClient(as_app(front.respond), headers=TOKEN)


@pytest.fixture
def labels(tokens: Path) -> TestClient:
    return client(tokens)


@pytest.fixture
def writer(tokens: Path) -> TestClient:
    return client(tokens, ("text", "generation"))


def check_error(response: Any, status: int, code: str | None = None) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"type", "message", "code"}
    assert code in (None, error["code"])
    assert response.headers["x-request-id"]
    return str(error["message"])


def test_an_answer_carries_its_request_and_version(labels: TestClient) -> None:
    found = labels.post("/models/m", json={"inputs": "hi"}, headers={"x-request-id": "abc-1"})
    assert found.json() == [[{"label": "hi", "score": 1.0}]]
    assert found.headers["x-model-version"] == "m@1"
    assert found.headers["x-request-id"] == "abc-1"


def test_a_list_is_answered_as_a_list(labels: TestClient) -> None:
    found = labels.post("/models/m@1", json={"inputs": ["a", "b"]})
    assert [each[0]["label"] for each in found.json()] == ["a", "b"]


def test_a_models_own_address_answers_as_the_front_does(tokens: Path) -> None:
    _, service = fake_front(tokens, FakeLoaded(), TEXT)
    own = TestClient(as_app(service.__call__), headers=TOKEN)
    assert own.post("/models/m", json={"inputs": "hi"}).json() == [[{"label": "hi", "score": 1.0}]]
    check_error(own.get("/models/m"), 405)
    check_error(own.post("/models/m", headers={"Authorization": ""}, json={}), 401)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b'{"inputs": "a', 400, "JSON"),
        (b'{"inputs": "\xff"}', 400, "UTF-8"),
        (b"[" * 100_000, 400, "JSON"),
        (b'{"inputs": NaN}', 400, "NaN"),
        (b"[1]", 400, "object"),
        (b"{}", 422, "inputs"),
        (b'{"inputs": 7}', 422, "text"),
        (b'{"inputs": []}', 422, "empty"),
        (b'{"inputs": "a", "parameters": 3}', 422, "parameters"),
        (json.dumps({"inputs": ["a"] * 10_000}).encode(), 413, "at most 32"),
        (json.dumps({"inputs": "a" * 10_000_000}).encode(), 413, "1 MiB"),
    ],
)
def test_bad_bodies(labels: TestClient, body: bytes, status: int, said: str) -> None:
    headers = {"content-type": "application/json"}
    message = check_error(labels.post("/models/m", content=body, headers=headers), status)
    assert said in message


def test_a_body_without_a_length_is_cut_off_at_the_limit(labels: TestClient) -> None:
    sent = []

    def parts() -> Iterator[bytes]:
        for _ in range(64):
            sent.append(1)
            yield b"a" * 2**17

    check_error(labels.post("/models/m", content=parts()), 413)


def test_bad_addresses_methods_and_media(labels: TestClient) -> None:
    assert "models: m" in check_error(labels.post("/models/x", json={}), 404, "model_not_found")
    check_error(labels.post("/models/m@7", json={"inputs": "a"}), 404, "version_not_found")
    check_error(labels.get("/nothing"), 404)
    assert labels.get("/models/m").headers["allow"] == "POST"
    media = {"content-type": "image/png"}
    check_error(labels.post("/models/m", content=b"x", headers=media), 415)
    zipped = {"content-encoding": "gzip"}
    check_error(labels.post("/models/m", content=b"x", headers=zipped), 415)
    assert "inspect" not in check_error(
        labels.get("/v1/models", headers={"Authorization": ""}), 401
    )


def test_a_failing_network_is_ours_to_own(labels: TestClient) -> None:
    check_error(labels.post("/models/m", json={"inputs": "boom"}), 500)
    assert labels.post("/models/m", json={"inputs": "fine"}).status_code == 200


def test_pictures_come_as_bytes_or_base64(tokens: Path) -> None:
    class Sizes(FakeLoaded):
        def row(self, request: Any) -> Any:
            return super().row({"inputs": str(len(request["inputs"]))})

        def answers(self, rows: Any, requests: Any) -> Any:
            return [[{"label": str(len(each["inputs"])), "score": 1.0}] for each in requests]

    pictures = client(tokens, ("vision", "classification"), Sizes())
    found = [{"label": "5", "score": 1.0}]
    assert pictures.post("/models/m", content=b"12345").json() == found
    encoded = {"inputs": base64.b64encode(b"12345").decode()}
    assert pictures.post("/models/m", json=encoded).json() == found
    check_error(pictures.post("/models/m", content=b""), 400)
    check_error(pictures.post("/models/m", json={"inputs": "*"}), 422)
    form = {"file": ("a.png", b"123")}
    check_error(pictures.post("/models/m", files=form), 415)


def test_open_routes_need_no_token(tokens: Path) -> None:
    front, _ = fake_front(tokens, FakeLoaded(), TEXT)
    anybody = TestClient(as_app(front.respond))
    for path in ("/healthz", "/readyz", "/openapi.json", "/", "/docs"):
        assert anybody.get(path).status_code == 200, path
    check_error(anybody.get("/v1/models"), 401, "unauthorized")
    assert "/models/m" in anybody.get("/openapi.json").json()["paths"]


def test_readiness_names_what_is_not_ready(tokens: Path) -> None:
    front, service = fake_front(tokens, FakeLoaded(), TEXT)
    shelf: Any = service.replica.shelf
    shelf.live, shelf.trouble = {}, {"production": "m@1 does not load: broken"}
    assert "m@1 does not load" in check_error(TestClient(as_app(front.respond)).get("/readyz"), 503)


def test_completions(writer: TestClient) -> None:
    body = {"model": "m", "prompt": "one two", "max_tokens": 5}
    found = writer.post("/v1/completions", json=body).json()
    assert found["choices"][0]["text"] == " one two"
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["total_tokens"] == 4
    own = writer.post("/models/m", json={"inputs": "one two"}).json()
    assert own == [{"generated_text": " one two"}]


def test_completions_stream(writer: TestClient) -> None:
    body = {"model": "m@1", "prompt": "one two", "stream": True}
    found = writer.post("/v1/completions", json=body)
    assert found.headers["content-type"].startswith("text/event-stream")
    events = [line[6:] for line in found.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert "".join(json.loads(e)["choices"][0]["text"] for e in events[:-1]) == " one two"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"model": None}, 422),
        ({"model": "x"}, 404),
        ({"prompt": 3}, 422),
        ({"prompt": ["a"] * 33}, 413),
        ({"n": 2}, 422),
        ({"prompt": ["a", "b"], "stream": True}, 422),
    ],
)
def test_bad_completions(writer: TestClient, changed: dict[str, Any], status: int) -> None:
    body = {"model": "m", "prompt": "a"} | changed
    check_error(writer.post("/v1/completions", json=body), status)


def test_routes_of_other_tasks_say_so(labels: TestClient) -> None:
    body = {"model": "m", "prompt": "a", "input": "a"}
    assert "text classification" in check_error(labels.post("/v1/completions", json=body), 422)
    check_error(labels.post("/v1/audio/speech", json=body), 422)
    check_error(labels.post("/v1/embeddings", json=body), 422)
    check_error(labels.post("/v1/audio/transcriptions", json=body), 415)
    files = {"file": ("a.wav", b"x")}
    check_error(labels.post("/v1/audio/transcriptions", files=files, data={"model": "m"}), 422)


def test_what_a_version_refuses_counts_as_its_own(tokens: Path) -> None:
    _, service = fake_front(tokens, FakeLoaded(), TEXT)
    service.gateway.model = "m"
    own = TestClient(as_app(service.__call__), headers=TOKEN)
    for inputs in ("good", "bad", "boom"):
        own.post("/models/m", json={"inputs": inputs})
    refused = own.post("/models/m", json={"inputs": "bad"})
    assert refused.headers["x-model-version"] == "m@1"
    own.post("/models/m", content=b"{")
    counts = {n: each["classes"] for n, each in service.gateway.figures.counts.items()}
    assert counts == {"m@1": {"2xx": 1, "4xx": 2, "5xx": 1}, "m@": {"4xx": 1}}
    assert set(Collected().summary(service.gateway.figures.counts)) == {"m@1"}


def test_overload_is_refused_before_a_body_is_read(tokens: Path) -> None:
    _, service = fake_front(tokens, FakeLoaded(), TEXT)
    own = TestClient(as_app(service.__call__), headers=TOKEN)
    assert own.post("/models/m", json={"inputs": "hi"}).status_code == 200
    service.replica._batchers[1].under_way = 10**6
    found = own.post("/models/m", content=b"no json")
    check_error(found, 503, "overloaded")
    assert int(found.headers["retry-after"]) >= 1
    assert found.headers["x-model-version"] == "m@1"


def test_an_overload_is_a_line_of_the_log_a_second(
    tokens: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, service = fake_front(tokens, FakeLoaded(), TEXT)
    own = TestClient(as_app(service.__call__), headers=TOKEN)
    assert own.post("/models/m", json={"inputs": "hi"}).status_code == 200
    service.replica._batchers[1].under_way = 10**6
    caplog.set_level("INFO", "ray.serve")
    for _ in range(5):
        own.post("/models/m", json={"inputs": "hi"})
    monkeypatch.setattr("serve.gateway.TELL_S", 0.0)
    own.post("/models/m", json={"inputs": "hi"})
    lines = [json.loads(record.message) for record in caplog.records]
    assert [line["refused"] for line in lines if line["status"] == 503] == [1, 5]
    assert service.gateway.figures.counts["m@1"]["classes"] == {"2xx": 1, "5xx": 6}
