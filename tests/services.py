"""A small service of its own: versions without training, a free port, requests to it."""

from __future__ import annotations

import io
import itertools
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cluster import services
from cluster.connection import Connection
from cluster.machine import free_ports
from cluster.request import Request
from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.bundles import claim_version, publish_version, set_alias
from jobs.domains import open_domain
from jobs.prepare import prepare
from jobs.prepared import PreparedData
from serve import verbs
from serve.tokens import first_token
from tests.clusters import own_cluster

LANGUAGE: dict[str, Any] = {
    "domain": "text",
    "task": "generation",
    "data": {"source": "builtin:python-docs", "tokenizer": {"type": "bpe", "size": 400}},
    "network": {"type": "gpt", "layers": 2, "heads": 2, "width": 32, "context": 64},
}

LABELS: dict[str, Any] = {
    "domain": "text",
    "task": "classification",
    "data": {"source": "builtin:docstrings", "tokenizer": {"type": "bpe", "size": 400}},
    "network": {"type": "bert", "layers": 2, "heads": 2, "width": 32, "context": 64},
}
DIGITS: dict[str, Any] = {
    "domain": "vision",
    "task": "classification",
    "data": {"source": "builtin:digits"},
    "network": {"type": "cnn", "width": 8},
}
WORDS: dict[str, Any] = {
    "domain": "speech",
    "task": "recognition",
    "data": {"source": "builtin:spoken"},
    "network": {"type": "ctc", "layers": 1, "heads": 2, "width": 16},
}
VOICE: dict[str, Any] = {
    "domain": "speech",
    "task": "synthesis",
    "data": {"source": "builtin:spoken"},
    "network": {"type": "tacotron2", "width": 32, "decoder": 32, "prenet": 16, "attention": 16},
}
FILMS: dict[str, Any] = {
    "domain": "recommendation",
    "task": "next-item",
    "data": {"source": "events.csv"},
    "network": {"type": "sasrec", "layers": 1, "width": 16},
}


def write_spec(folder: Path, models: dict[str, Any], name: str = "served") -> Spec:
    """cluster.yaml in ``folder`` with these models, on a free port."""
    document = {
        "name": name,
        "cluster": {"storage": "./store"},
        "services": {"port": free_ports(1)[0]},
        "models": models,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cluster.yaml").write_text(json.dumps(document))
    return load(folder / "cluster.yaml")


def publish(spec: Spec, name: str, seed: int, folder: Path, alias: str | None = None) -> int:
    """A version whose weights are as they were initialised from ``seed``; its number."""
    storage = open_storage(spec.cluster.storage, spec.name)
    model = spec.model(name)
    prepared = prepare(model, storage, lambda line: None)
    data = PreparedData(storage, prepared.digest)
    domain = open_domain(model, data.processor())
    torch.manual_seed(seed)
    network = domain.network()
    folder.mkdir(parents=True)
    domain.save(network, network.state_dict(), folder)
    run = f"{name}-train-{seed}"
    bundle = {"format": 1, "domain": model.domain, "task": model.task, "run": run}
    number = claim_version(storage, name, run)
    publish_version(storage, name, number, folder, bundle | {"data": prepared.digest})
    if alias:
        set_alias(storage, name, alias, number, "test", "a test")
    return number


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def ask(
    url: str,
    body: Any = None,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    method: str | None = None,
    timeout_s: float = 60.0,
) -> Answer:
    """One request; errors are answers too. A body that is not bytes goes as JSON."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} | (headers or {})
    if token:
        given["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data, given, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return Answer(response.status, _lower(response.headers), response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, _lower(error.headers), error.read())


@dataclass
class Served:
    """Services that are up."""

    spec: Spec
    connection: Connection
    request: Request
    url: str
    token: str

    def ask(self, path: str, body: Any = None, **options: Any) -> Answer:
        return ask(self.url + path, body, self.token, **options)


@contextmanager
def serving(folder: Path, models: dict[str, Any], taken: str | None = None) -> Iterator[Served]:
    """The services of these models, each with an untrained version 1 in production.

    `taken`: events.csv, of which recommenders learn who took what.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(folder / "cache"))
        patch.setenv("SLIPWAY_SECRETS", str(folder / "secrets"))
        spec = write_spec(folder, models)
        (folder / "events.csv").write_text(taken or events())
        for name in spec.models:
            publish(spec, name, 1, folder / f"{name}-1", "production")
        with own_cluster(spec, folder / "state") as connection:
            request = Request(file=folder / "cluster.yaml")
            verbs.serve(request, None)
            token = first_token(verbs.token_file_of(spec))
            yield Served(spec, connection, request, services.address(spec), token)


def events() -> str:
    """Who saw which film, and when."""
    seen = [f"u{user},film {(user + 3 * n) % 12},{n}" for user in range(30) for n in range(6)]
    return "\n".join(["user,item,time", *seen]) + "\n"


def picture() -> bytes:
    """A grey PNG of 8 x 8 pixels."""
    file = io.BytesIO()
    Image.new("L", (8, 8), 90).save(file, "PNG")
    return file.getvalue()


@dataclass
class Load:
    """Requests of several clients, one after the other each, until told to end."""

    once: Callable[[int], Answer]
    clients: int = 4
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(place,)) for place in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _work(self, client: int) -> None:
        for _ in itertools.count():
            if self._ended.is_set():
                return
            found = self._try(client)
            if not isinstance(found, Answer) or found.status >= 500:  # as clients do: once more
                found = self._try(client)
            if isinstance(found, Answer) and found.status == 200:
                self.answers.append(found)
            else:
                self.failures.append(repr(found)[:300])

    def _try(self, client: int) -> Answer | OSError:
        try:
            return self.once(client)
        except OSError as error:
            return error


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
