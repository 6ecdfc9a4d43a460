"""The page in a browser: every kind of input, by keyboard, in the dark, on a narrow screen."""

from __future__ import annotations

import io
import shutil
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image

from cluster.machine import free_ports
from serve.front import Front
from serve.gateway import Gateway
from serve.model import ModelService
from serve.replica import Replica
from serve.samples import tone
from serve.tasks import TASKS
from serve.tokens import Tokens
from tests.fakes import FakeHandle, FakeLoaded, FakeShelf, FakeStreams, as_app

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
SPOKEN = {"audio": b64encode(tone()).decode(), "sampling_rate": 16000}
KINDS = {
    "writer": ("text", "generation"),
    "labels": ("text", "classification"),
    "digits": ("vision", "classification"),
    "voice": ("speech", "synthesis"),
    "words": ("speech", "recognition"),
    "films": ("recommendation", "next-item"),
}


class Shaped(FakeLoaded):
    """Answers in the shape of its task."""

    def __init__(self, kind: tuple[str, str]) -> None:
        super().__init__()
        self.kind = kind

    def row(self, request: Any) -> Any:
        return super().row({"inputs": "x"})

    def answers(self, rows: Any, requests: Any) -> list[Any]:
        found: dict[tuple[str, str], Any] = {
            ("text", "classification"): [[{"label": "refund", "score": 0.9}]],
            ("vision", "classification"): [{"label": "seven", "score": 0.8}],
            ("speech", "synthesis"): SPOKEN,
            ("speech", "recognition"): {"text": "yes please"},
            ("recommendation", "next-item"): [{"item": "Solaris", "score": 0.7}],
        }
        return [found[self.kind] for _ in requests]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tokens = tmp_path_factory.mktemp("page") / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text("me right\n")
    gateway = Gateway(Tokens(tokens))

    def service(name: str) -> ModelService:
        shelf: Any = FakeShelf(name, Shaped(KINDS[name]))
        return ModelService(name, Replica(shelf, TASKS[KINDS[name]], FakeStreams), gateway)

    services = {name: service(name) for name in KINDS}
    models = {name: {"domain": kind[0], "task": kind[1]} for name, kind in KINDS.items()}
    front = Front(models, gateway, lambda name: FakeHandle(services[name]))
    port = free_ports(1)[0]
    config = uvicorn.Config(as_app(front.respond), "127.0.0.1", port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=[("light", 1200), ("dark", 380)], ids=["light", "dark-narrow"])
def page(browser: Any, url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    scheme, width = request.param
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.goto(f"{url}/#token=right")
    page.wait_for_selector("nav button")
    yield page
    assert page.problems == []
    page.close()


def answer(page: Any) -> Any:
    sync_api.expect(page.locator(".facts")).to_contain_text("@1", timeout=20_000)
    return page.locator(".answer")


def png(folder: Path) -> Path:
    path = folder / "seven.png"
    file = io.BytesIO()
    Image.new("L", (8, 8), 90).save(file, "PNG")
    path.write_bytes(file.getvalue())
    return path


def test_every_domain_through_the_page(page: Any, tmp_path: Path) -> None:
    assert "token" not in page.url
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expected = {"labels": "refund", "digits": "seven", "words": "yes please", "films": "Solaris"}
    for name in KINDS:
        page.click(f"nav button[data-model={name}]")
        if KINDS[name][1] == "recognition" or KINDS[name][0] == "vision":
            page.set_input_files("#input", png(tmp_path))
        page.click("form button:text('Ask')")
        found = answer(page)
        if name == "voice":
            assert found.locator("audio").count() == 1
        else:
            assert expected.get(name, "Once upon a time Once upon a time") in found.inner_text()
        page.click("summary")
        assert f"/models/{name}" in page.inner_text("details pre") or name == "writer"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_keyboard_is_enough(page: Any) -> None:
    page.focus("nav button[data-model=labels]")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "input"
    page.keyboard.type("more words")
    page.keyboard.press("Control+Enter")
    assert "refund" in answer(page).inner_text()


def test_a_wrong_token_is_explained(page: Any) -> None:
    page.fill("#token", "wrong")
    page.press("#token", "Enter")
    sync_api.expect(page.locator("#notice")).to_contain_text("token")
    page.problems.clear()  # the browser logs the 401


def test_the_api_page_shows_the_routes(page: Any, url: str) -> None:
    page.goto(f"{url}/docs")
    page.wait_for_selector("details")
    assert "POST /models/films" in page.inner_text("#operations")
