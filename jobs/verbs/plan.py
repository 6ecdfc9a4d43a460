"""``slipway plan``: what each stage will do and what it takes; changes nothing."""

from __future__ import annotations

from typing import Any

from cluster.memory import USABLE_SHARE
from cluster.plan import MemoryPlan, memory_plan
from cluster.request import Request
from cluster.spec import Spec, worker_slots
from cluster.storage import Storage, open_storage
from jobs.bundles import resolve, versions
from jobs.promotion import is_judged
from jobs.runs import Run, list_runs
from jobs.schedule import num_steps
from jobs.stages import find_data_digest, train_digest
from jobs.starts import pinned


def plan(request: Request) -> None:
    """Print stages, memory per device at each ZeRO stage, and what is done."""
    spec = request.spec()
    storage = open_storage(spec.cluster.storage, spec.name)
    document: dict[str, Any] = {"stages": [], "memory_bytes": {}, "hours": None, "price": None}
    for name in spec.models:
        stages = stages_of(request, spec, storage, name)
        document["stages"] += stages
        memory = memory_plan(spec, name, sizes=_sizes(spec, storage, name))
        request.table(
            ["model", "stage", "state", "what it will do"],
            [[s["model"], s["stage"], s["state"], s["does"]] for s in stages],
            "",
        )
        if memory is not None:
            document["memory_bytes"][name] = memory_document(memory)
            _show_memory(request, spec, name, memory)
    request.answer(document)


def stages_of(request: Request, spec: Spec, storage: Storage, name: str) -> list[dict[str, Any]]:
    """Describe a model's stages: done, to do, or waiting for what comes before."""
    model = pinned(spec, name, storage).model(name)
    data = find_data_digest(model, lambda text: None, storage)
    prepared = storage.exists(f"data/{data}/manifest.json")
    rows = _rows(storage, data) if prepared else None
    run = _find(storage, train_digest(model, data))
    result = run.result() if run is not None else None
    number = result["version"] if result else None
    evaluated = any(v.number == number and v.held_back for v in versions(storage, name))
    steps = model.train.steps or (num_steps(model.train, rows) if rows else None)
    size = f"{steps:,} steps" if steps else f"{model.train.epochs:g} epochs"
    workers = _workers(str(model.train.workers))
    does = {
        "prepare": f"{rows:,} training rows" if rows else f"read {', '.join(model.data.source)}",
        "train": f"{size} of {model.train.global_batch} rows on {workers}",
        "evaluate": f"score {f'{name}@{number}' if number else 'a new version'} on held-back data",
    }
    done = {"prepare": prepared, "train": result is not None, "evaluate": evaluated}
    if model.promote is not None:
        does["promote"] = f"{model.promote.to} if {model.promote.condition or 'trained'}"
        version = resolve(storage, f"{name}@{number}") if number else None
        done["promote"] = version is not None and is_judged(storage, version, model.promote)
    return [
        {"model": name, "stage": stage, "state": "done" if done[stage] else "to do", "does": text}
        for stage, text in does.items()
    ]


def _find(storage: Storage, digest: str) -> Run | None:
    """The newest run of this digest, without opening one."""
    found = [run for run in list_runs(storage) if run.info()["digest"] == digest]
    return max(found, key=lambda run: run.info()["number"], default=None)


def _rows(storage: Storage, data: str) -> int:
    return int(storage.read_json(f"data/{data}/manifest.json")["splits"]["train"]["rows"])


def _sizes(spec: Spec, storage: Storage, name: str) -> dict[str, int]:
    """What preparing has counted of users and items; empty before it, or where there are none."""
    if spec.model(name).domain != "recommendation":
        return {}
    model = pinned(spec, name, storage).model(name)
    path = f"data/{find_data_digest(model, lambda text: None, storage)}/manifest.json"
    manifest = storage.read_json(path) if storage.exists(path) else {}
    names = ("users", "items", "trained_users", "trained_items")
    return {key: manifest[key] for key in names if key in manifest}


def memory_document(memory: MemoryPlan) -> dict[str, Any]:
    """Return the JSON of one model's memory, bytes per device at each stage."""
    return {
        "parameters": memory.parameters,
        "precision": memory.precision,
        "workers": memory.workers,
        "stage": memory.stage,
        "device": memory.device_bytes,
        "stages": {
            str(stage): {
                "parameters": round(e.parameters),
                "gradients": round(e.gradients),
                "optimizer": round(e.optimizer),
                "activations": round(e.activations),
                "total": round(e.total),
            }
            for stage, e in memory.estimates.items()
        },
    }


def _show_memory(request: Request, spec: Spec, name: str, memory: MemoryPlan) -> None:
    train = spec.model(name).train
    chosen = "chosen by auto" if train.zero.stage == "auto" else "as the YAML says"
    request.say(
        f"{name}: {memory.parameters:,} parameters, {memory.precision}, "
        f"{_workers(str(memory.workers))}; ZeRO stage {memory.stage}, {chosen}"
    )
    request.table(
        ["ZeRO stage", "parameters", "gradients", "optimizer", "activations", "per worker"],
        [
            [
                f"{stage}{' *' if stage == memory.stage else ''}",
                *(_mebibytes(v) for v in (e.parameters, e.gradients, e.optimizer, e.activations)),
                _mebibytes(e.total),
            ]
            for stage, e in memory.estimates.items()
        ],
        "",
    )
    total, usable = memory.estimates[memory.stage].total, memory.device_bytes * USABLE_SHARE
    if total > usable:
        request.say(
            f"warning: {_mebibytes(total)} is more than the {_mebibytes(usable)} that a worker "
            "may use; lower train.micro_batch, or set train.zero.offload: cpu, "
            "train.activation_checkpointing: true or more workers"
        )
    slots = worker_slots(spec.cluster, train)
    if slots is not None and slots < memory.workers:
        request.say(f"warning: the cluster holds {slots} workers at most")


def _workers(number: str) -> str:
    return f"{number} worker" if number == "1" else f"{number} workers"


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB" if size < 2**34 else f"{size / 2**30:,.1f} GiB"
