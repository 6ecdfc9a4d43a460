"""Requests that nobody should send never become a 500 of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.fakes import FakeLoaded, as_app, fake_front
from tests.fuzzing import fuzzed, wrong_answer

KINDS = {
    "text": ("text", "classification"),
    "generation": ("text", "generation"),
    "image": ("vision", "classification"),
    "audio": ("speech", "recognition"),
    "events": ("recommendation", "next-item"),
}


class Fake(FakeLoaded):
    """A language model where a seed asks for one."""

    def answer(self, request: Any) -> Any:
        if "seed" in request["parameters"]:
            return {"generated_text": str(request["inputs"])}
        return super().answer(request)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes_is_answered_in_the_documented_shape(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.touch(mode=0o600)
    path.write_text("alice right\n")
    front, _ = fake_front(path, Fake(), KINDS[kind])
    client = TestClient(as_app(front.respond), headers={"Authorization": "Bearer right"})
    statuses = set()
    for request in fuzzed(1, 80, {"m": kind}):
        headers = {k: v.encode() for k, v in request.headers.items()}
        found = client.request(request.method, request.path, content=request.body, headers=headers)
        assert not wrong_answer(request, found.status_code, found.content), request
        statuses.add(found.status_code)
    assert {400, 404} <= statuses
