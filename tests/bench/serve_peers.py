"""Ahead of what people pick instead: LitServe, and a service written by hand with FastAPI."""

from __future__ import annotations

import base64
import io
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cluster.machine import free_ports
from tests.bench.pressure import ROOT, Plan, Seen, encoded, press
from tests.bench.result import Result, Say
from tests.bench.served import BERT, bundle_of, plan, text_of
from tests.services import DIGITS, FILMS, Served, serving

CLAIM = "ahead of what people pick instead"
HOW = (
    "requests/s at 1, 16 and 64 connections, one replica with one thread, against LitServe "
    "(batches of 16) and a hand-written FastAPI service with the same weights, in turn, each "
    "alone; BERT of 4 layers on 25 tokens, a CNN on 28x28 PNG and on 224x224 JPEG, SASRec over "
    "10,000 items, and pictures of 5 MB at 4 connections; medians of the rounds, the worst case of "
    "each kind named"
)
CONNECTIONS = (1, 16, 64)
PEERS = ("fastapi", "litserve")
LEAST_ALONE, LEAST_LARGE = 0.95, 1.0
ITEMS = 10_000
JSON = {"Content-Type": "application/json"}
MODELS: dict[str, dict[str, Any]] = {
    "text": BERT,
    "small": DIGITS | {"network": {"type": "cnn", "width": 16, "size": 28}},
    "large": DIGITS | {"network": {"type": "cnn", "width": 8, "size": 112}},
    "films": FILMS | {"network": {"type": "sasrec", "layers": 2, "width": 64}},
}


def picture(size: int, form: str) -> str:
    """Noise with some structure as a file in base64."""
    values = np.random.default_rng(1).integers(0, 255, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize((size, size)).save(file, form)
    return base64.b64encode(file.getvalue()).decode()


def events() -> str:
    """Ten thousand items, each taken at least twice."""
    lines = (f"u{n // 20},film {n % ITEMS},{n}" for n in range(2 * ITEMS))
    return "\n".join(["user,item,time", *lines]) + "\n"


def bodies(bundles: dict[str, Path]) -> dict[str, tuple[str, Any]]:
    """Case -> model and body."""
    history = {"history": [f"film {n}" for n in range(0, 2000, 100)]}
    return {
        "text": ("text", {"inputs": text_of(bundles["text"])}),
        "28x28 PNG": ("small", {"inputs": picture(28, "PNG")}),
        "224x224 JPEG": ("large", {"inputs": picture(224, "JPEG")}),
        "10,000 items": ("films", {"inputs": history, "parameters": {"top_k": 10}}),
        "5 MB": ("small", {"inputs": picture(1150, "PNG")}),
    }


@dataclass(frozen=True)
class Peer:
    """A service that runs, in a process group of its own."""

    url: str
    group: int

    def rest(self) -> None:
        """Stand still while others are measured: LitServe looks for work all the time."""
        os.killpg(self.group, signal.SIGSTOP)

    def wake(self) -> None:
        """Go on."""
        os.killpg(self.group, signal.SIGCONT)


@contextmanager
def peer(name: str, bundle: Path, kind: tuple[str, str], body: Any) -> Iterator[Peer]:
    """A peer, once it answers."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "tests.bench.peers", name, str(bundle), *kind, str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as child:
        url = f"http://127.0.0.1:{port}/predict"
        try:
            deadline = time.monotonic() + 90
            while "200" not in press(load(url, body, 1, 0.2)).statuses:
                if child.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} did not start")
            yield Peer(url, child.pid)
        finally:  # LitServe's workers too: the group is its own
            os.killpg(child.pid, signal.SIGKILL)


def load(url: str, body: Any, connections: int, seconds: float) -> Plan:
    """A load on a peer."""
    return Plan(url, encoded(body), connections, seconds, JSON)


def measure(folder: Path, say: Say, rounds: int = 3, seconds: float = 4.0) -> Result:
    """Each case: ours and both peers in turn, at every number of connections."""
    (folder / "events.csv").parent.mkdir(parents=True, exist_ok=True)
    models = {name: model | {"serve": {"batch": {"size": 32}}} for name, model in MODELS.items()}
    with serving(folder, models, events()) as served:
        bundles = {name: bundle_of(served, name) for name in MODELS}
        cases = {
            case: compare(served, bundles[model], model, body, case, rounds, seconds, say)
            for case, (model, body) in bodies(bundles).items()
        }
    return judged(cases)


def compare(
    served: Served,
    bundle: Path,
    model: str,
    body: Any,
    case: str,
    rounds: int,
    seconds: float,
    say: Say,
) -> dict[str, dict[str, Any]]:
    """Connections -> service -> {"rate", "p99_ms"}, medians of the rounds."""
    kind = MODELS[model]["domain"], MODELS[model]["task"]
    levels = (4,) if case == "5 MB" else CONNECTIONS
    seen: dict[tuple[str, int], list[Seen]] = {}
    with (
        peer("fastapi", bundle, kind, body) as first,
        peer("litserve", bundle, kind, body) as second,
    ):
        peers = {"fastapi": first, "litserve": second}
        for each in peers.values():
            each.rest()
        for _ in range(rounds):
            for level in levels:
                ours = plan(served, model, body, connections=level, seconds=seconds, headers=JSON)
                seen.setdefault(("ours", level), []).append(press(ours))
                for name, each in peers.items():
                    each.wake()
                    seen.setdefault((name, level), []).append(
                        press(load(each.url, body, level, seconds))
                    )
                    each.rest()
    found: dict[str, dict[str, Any]] = {}
    for (name, level), runs in seen.items():
        found.setdefault(str(level), {})[name] = {
            "rate": statistics.median(run.rate for run in runs),
            "p99_ms": statistics.median(run.quantile(0.99) for run in runs),
            "failed": sum(
                n for run in runs for status, n in run.statuses.items() if status != "200"
            ),
        }
    for level, services in found.items():
        assert not any(each["failed"] for each in services.values()), (case, level, services)
        shown = ", ".join(f"{n} {s['rate']:.0f}/s" for n, s in services.items())
        say(f"{case}, {level} connections: {shown}")
    return found


def judged(cases: dict[str, dict[str, dict[str, Any]]]) -> Result:
    """The worst ratio of ours to the better peer: alone, under load, and of large payloads."""
    ratios: dict[str, dict[str, float]] = {"alone": {}, "loaded": {}, "large": {}}
    for case, levels in cases.items():
        for level, services in levels.items():
            kind = "large" if case == "5 MB" else "alone" if level == "1" else "loaded"
            peers = ("fastapi",) if kind == "large" else PEERS
            best = max(services[name]["rate"] for name in peers)
            ratios[kind][f"{case} at {level}"] = services["ours"]["rate"] / best
    worst = {kind: min(found, key=lambda case: found[case]) for kind, found in ratios.items()}
    shown = [f"{ratios[kind][case]:.2f} ({case})" for kind, case in worst.items()]
    holds = (
        ratios["alone"][worst["alone"]] >= LEAST_ALONE
        and ratios["loaded"][worst["loaded"]] > 1
        and ratios["large"][worst["large"]] >= LEAST_LARGE
    )
    return Result(
        f"{shown[0]} of the better peer at 1, {shown[1]} at 16 and 64, {shown[2]} of FastAPI",
        f"at least {LEAST_ALONE}; above 1; at least {LEAST_LARGE:g}",
        holds,
        {"cases": cases, "ratios": ratios},
    )
