"""Notices arrive, and nothing but the receiver learns where they go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster.notices import NoticeError, notify, post
from cluster.spec import Spec, load
from tests.unit.conftest import put_secret

SECRET = "T00/B00/veryhush"


class Hook(HTTPServer):
    """Keeps what it is sent, and answers with the codes it is given, the last one for ever."""

    def __init__(self) -> None:
        self.codes, self.got = [200], list[tuple[str, dict[str, Any]]]()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, json.loads(body)))
        codes = self.server.codes
        code = codes.pop(0) if len(codes) > 1 else codes[0]
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def make(folder: Path, on: str = "[failed, budget]") -> Spec:
    path = folder / "cluster.yaml"
    path.write_text(
        f"name: acme\ncluster: {{storage: ./s}}\nnotify: {{webhook: {{secret: chat}}, on: {on}}}\n"
    )
    return load(path)


def test_a_notice_arrives_as_chats_take_it(
    hook: Hook, tmp_path: Path, secrets_folder: Path
) -> None:
    put_secret(secrets_folder, "chat", hook.url)
    assert notify(make(tmp_path), "failed", "m-train-1 failed", {"run": "m-train-1"})
    [(path, content)] = hook.got
    assert path.endswith(SECRET)
    assert content["text"] == content["content"] == "acme: m-train-1 failed"
    assert content["event"] == "failed"
    assert content["run"] == "m-train-1"


def test_only_what_was_asked_for_is_told(hook: Hook, tmp_path: Path, secrets_folder: Path) -> None:
    put_secret(secrets_folder, "chat", hook.url)
    assert not notify(make(tmp_path), "complete", "done")
    assert not notify(make(tmp_path).model_copy(update={"notify": None}), "failed", "no")
    assert notify(make(tmp_path, "complete"), "complete", "done")
    assert len(hook.got) == 1


def test_what_passes_is_tried_again_and_what_does_not_is_not(hook: Hook) -> None:
    hook.codes = [503, 429, 200]
    post(hook.url, {"text": "x"}, wait_s=0.01)
    assert len(hook.got) == 3
    hook.codes = [404]
    with pytest.raises(NoticeError, match="answers 404"):
        post(hook.url, {"text": "x"}, wait_s=0.01)
    assert len(hook.got) == 4
    hook.codes = [302]
    with pytest.raises(NoticeError, match="answers 302"):
        post(hook.url, {"text": "x"}, wait_s=0.01)


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:1/services/{SECRET}",
        f"ftp://example.com/{SECRET}",
        f"http://127.0.0.1:port/{SECRET}",
        f"http://127.0.0.1:1/a b/{SECRET}",
        f"https://no-such-host.invalid/{SECRET}",
    ],
)
def test_failures_do_not_tell_the_url(
    url: str, tmp_path: Path, secrets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.notices.FIRST_WAIT_S", 0.0)
    monkeypatch.setattr("cluster.notices.TRIES", 1)
    put_secret(secrets_folder, "chat", url)
    told: list[str] = []
    assert not notify(make(tmp_path), "failed", "x", report=told.append)
    assert told[0].startswith("warning: the notice was not delivered: ")
    assert "hush" not in told[0]
    assert "no-such-host" not in told[0]


def test_a_secret_that_is_absent_is_named(tmp_path: Path, secrets_folder: Path) -> None:
    told: list[str] = []
    assert not notify(make(tmp_path), "failed", "x", report=told.append)
    assert "secret chat: there is no" in told[0]
