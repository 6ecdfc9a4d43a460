"""The services that are measured: small models without training, and their bare networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from cluster import local
from cluster.processes import owned
from cluster.storage import open_storage
from jobs.bundles import fetch_bundle, resolve
from tests.bench.pressure import ROOT, Plan, encoded
from tests.services import LABELS, Served

TOKENS = 25
BERT: dict[str, Any] = LABELS | {
    "network": {"type": "bert", "layers": 4, "heads": 4, "width": 256, "context": 64}
}
"""4 layers, 256 wide: what serving is measured with."""


def plan(served: Served, model: str, *bodies: Any, **options: Any) -> Plan:
    """A load of these bodies on a model of the services."""
    headers = {"Authorization": f"Bearer {served.token}"} | options.pop("headers", {})
    return Plan(f"{served.url}/models/{model}", encoded(*bodies), headers=headers, **options)


def bundle_of(served: Served, model: str) -> Path:
    """The folder of a model's version 1 on this machine."""
    storage = open_storage(served.spec.cluster.storage, served.spec.name)
    return fetch_bundle(storage, resolve(storage, f"{model}@1"))


def text_of(folder: Path, tokens: int = TOKENS) -> str:
    """A text that a classifier reads as so many tokens, marks included."""
    from jobs.domains.text.vocabulary import Vocabulary

    vocabulary = Vocabulary(folder)
    text = "open a socket and listen"
    while vocabulary.encode_framed(text, 64).size < tokens:
        text += " a"
    assert vocabulary.encode_framed(text, 64).size == tokens
    return text


def processes(served: Served, name: str) -> list[psutil.Process]:
    """Those of the cluster whose command line holds a name."""
    found = owned(local.home_of(served.spec).mark)
    return [process for process in found if name in " ".join(_words(process))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return [Path(word).name if number == 0 else word
                for number, word in enumerate(process.cmdline())]  # fmt: skip
    except psutil.Error:
        return []


class Bare:
    """A bundle's network in a process of its own with one thread, without anything around it."""

    def __init__(self, folder: Path, kind: tuple[str, str], body: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "tests.bench.bare_network", str(folder), *kind]
        self._child = subprocess.Popen(
            [*command, json.dumps(body)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def ms(self, batch: int, seconds: float) -> float:
        """Median milliseconds of a forward pass over so many equal records."""
        return float(self.ask("passes", batch, seconds))

    def ask(self, what: str, *arguments: float) -> Any:
        """What `bare_network` is asked for."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps([what, *arguments]) + "\n")
        self._child.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self._child.stdout is not None
        return json.loads(self._child.stdout.readline())

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *error: object) -> None:
        self._child.kill()
        self._child.wait()
