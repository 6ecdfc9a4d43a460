"""A small service of its own: versions without training, a free port, requests to it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cluster.machine import free_ports
from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.bundles import claim_version, publish_version, set_alias
from jobs.domains import open_domain
from jobs.prepare import prepare
from jobs.prepared import PreparedData

LANGUAGE = {
    "domain": "text",
    "task": "generation",
    "data": {"source": "builtin:python-docs", "tokenizer": {"type": "bpe", "size": 400}},
    "network": {"type": "gpt", "layers": 2, "heads": 2, "width": 32, "context": 64},
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


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
