"""``slipway plan``: what each stage will do and what it takes; changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster.local_storage import LocalStorage
from cluster.rendering import notes
from cluster.request import Request
from cluster.spec import ModelSpec, Spec
from cluster.storage import Storage, StorageError, open_storage
from cluster.waking import slow_starts
from jobs.bundles import resolve, versions
from jobs.forecast import Forecast, forecast
from jobs.prepared import prepared_rows
from jobs.promotion import is_judged
from jobs.runs import Run, list_runs
from jobs.schedule import num_steps
from jobs.stages import find_data_digest, train_digest
from jobs.starts import pinned, waits_for
from jobs.verbs.plan_memory import memory_document, num_workers, show_memory
from jobs.verbs.plan_price import price_document, show_price, show_time, time_document


@dataclass(frozen=True)
class Planned:
    """A stage: its name, its run's digest where that is known, and what it does."""

    stage: str
    digest: str | None
    does: str


class Instead(Protocol):
    """What takes the place of training in some models, known to another package: a sweep."""

    def stage(self, spec: Spec, name: str, data: str | None) -> Planned | None:
        """The stage in place of ``train``; None where the model is just trained."""

    def forecast(
        self, spec: Spec, name: str, storage: Storage, rows: int | None, found: Forecast
    ) -> tuple[Forecast, dict[str, object]]:
        """What it takes, in place of one training's forecast, and its JSON."""


def plan(request: Request, instead: Instead | None = None) -> None:
    """Print stages, memory at each ZeRO stage, hours and price, and what is done.

    On paper too: with a storage that cannot be reached yet, as if nothing were done.
    """
    spec = request.spec()
    for line in notes(spec):
        request.say(f"note: {line}")
    with _reached(request, spec) as storage:
        request.answer(_planned(request, spec, storage, instead))


def _planned(
    request: Request, spec: Spec, storage: Storage, instead: Instead | None
) -> dict[str, Any]:
    document: dict[str, Any] = {"stages": [], "memory_bytes": {}, "models": {}}
    forecasts = {}
    for name in spec.models:
        waits = waits_for(spec, name, storage)
        data = None if waits else _data(spec, storage, name)
        rows = prepared_rows(storage, data) if data else None
        other = instead.stage(spec, name, data) if instead else None
        stages = stages_of(spec, storage, name, data, rows, waits, other)
        document["stages"] += stages
        request.table(
            ["model", "stage", "state", "what it will do"],
            [[s["model"], s["stage"], s["state"], s["does"]] for s in stages],
            "",
        )
        found = forecasts[name] = forecast(spec, name, storage, data, rows)
        document["models"][name] = time_document(found)
        if found.memory is not None:
            document["memory_bytes"][name] = memory_document(found.memory)
            show_memory(request, spec, name, found.memory)
        show_time(request, name, found)
        if instead and other:
            forecasts[name], took = instead.forecast(spec, name, storage, rows, found)
            document["models"][name][other.stage] = took
    document |= price_document(spec, forecasts) | {"notes": slow_starts(spec)}
    show_price(request, spec, forecasts)
    for note in slow_starts(spec).values():
        request.say(note)
    return document


@contextmanager
def _reached(request: Request, spec: Spec) -> Iterator[Storage]:
    """The spec's storage, or an empty one where it does not answer."""
    storage = open_storage(spec.cluster.storage, spec.name)
    try:
        storage.exists("probe")
    except StorageError as error:
        request.say(f"note: {error}\nplanned as if nothing were done yet\n")
    else:
        yield storage
        return
    with tempfile.TemporaryDirectory(prefix="slipway-plan-") as folder:
        yield LocalStorage(Path(folder))


def stages_of(
    spec: Spec,
    storage: Storage,
    name: str,
    data: str | None,
    rows: int | None,
    waits: str | None = None,
    other: Planned | None = None,
) -> list[dict[str, Any]]:
    """Describe a model's stages: done, to do, or waiting for a version that another model makes."""
    model = spec.model(name) if waits else pinned(spec, name, storage).model(name)
    if other is None:
        digest = train_digest(model, data) if data else None
        other = Planned("train", digest, _training(model, rows))
    run = _find(storage, other.digest) if other.digest else None
    result = run.result() if run is not None else None
    number = result["version"] if result else None
    evaluated = any(v.number == number and v.held_back for v in versions(storage, name))
    does = {
        "prepare": f"{rows:,} training rows" if rows else f"read {', '.join(model.data.source)}",
        other.stage: other.does,
        "evaluate": f"score {f'{name}@{number}' if number else 'a new version'} on held-back data",
    }
    done = {"prepare": rows is not None, other.stage: result is not None, "evaluate": evaluated}
    if model.promote is not None:
        does["promote"] = f"{model.promote.to} if {model.promote.condition or 'trained'}"
        version = resolve(storage, f"{name}@{number}") if number else None
        done["promote"] = version is not None and is_judged(storage, version, model.promote)
    to_do = f"waits for {waits}" if waits else "to do"
    return [
        {"model": name, "stage": stage, "state": "done" if done[stage] else to_do, "does": text}
        for stage, text in does.items()
    ]


def _training(model: ModelSpec, rows: int | None) -> str:
    steps = model.train.steps or (num_steps(model.train, rows) if rows else None)
    size = f"{steps:,} steps" if steps else f"{model.train.epochs:g} epochs"
    return f"{size} of {model.train.global_batch} rows on {num_workers(str(model.train.workers))}"


def _find(storage: Storage, digest: str) -> Run | None:
    """The newest run of this digest, without opening one."""
    found = [run for run in list_runs(storage) if run.info()["digest"] == digest]
    return max(found, key=lambda run: run.info()["number"], default=None)


def _data(spec: Spec, storage: Storage, name: str) -> str:
    """Digest that the model's data has or will have."""
    model = pinned(spec, name, storage).model(name)
    return find_data_digest(model, lambda text: None, storage)
