"""The part of a plan that is about memory: bytes per device at each ZeRO stage."""

from __future__ import annotations

from typing import Any

from cluster.memory import USABLE_SHARE
from cluster.plan import MemoryPlan, shown_bytes
from cluster.request import Request
from cluster.spec import Spec, worker_slots

KINDS = ("parameters", "gradients", "optimizer", "activations", "buffers")


def memory_document(memory: MemoryPlan) -> dict[str, Any]:
    """Return the JSON of one model's memory, bytes per device at each stage."""
    return {
        "parameters": memory.parameters,
        "precision": memory.precision,
        "workers": memory.workers,
        "stage": memory.stage,
        "why": memory.why,
        "device": memory.device_bytes,
        "stages": {
            str(stage): {
                "parameters": round(e.parameters),
                "gradients": round(e.gradients),
                "optimizer": round(e.optimizer),
                "activations": round(e.activations),
                "buffers": round(e.buffers),
                "total": round(e.total),
            }
            for stage, e in memory.estimates.items()
        },
    }


def show_memory(request: Request, spec: Spec, name: str, memory: MemoryPlan) -> None:
    """Print the table of stages, the one that is taken and why."""
    train = spec.model(name).train
    request.say(
        f"{name}: {memory.parameters:,} parameters, {memory.precision}, "
        f"{num_workers(str(memory.workers))}; ZeRO stage {memory.stage}: {memory.why}"
    )
    request.table(
        ["ZeRO stage", *KINDS, "per worker"],
        [
            [
                f"{stage}{' *' if stage == memory.stage else ''}",
                *(shown_bytes(getattr(e, kind)) for kind in KINDS),
                shown_bytes(e.total),
            ]
            for stage, e in memory.estimates.items()
        ],
        "",
    )
    total, usable = memory.estimates[memory.stage].total, memory.device_bytes * USABLE_SHARE
    if total > usable:
        request.say(
            f"warning: {shown_bytes(total)} is more than the {shown_bytes(usable)} that a worker "
            "may use; lower train.micro_batch, or set train.zero.offload: cpu, "
            "train.activation_checkpointing: true or more workers"
        )
    slots = worker_slots(spec.cluster, train)
    if slots is not None and slots < memory.workers:
        request.say(f"warning: the cluster holds {slots} workers at most")


def num_workers(number: str) -> str:
    """ "1 worker", "2 workers", "1..8 workers"."""
    return f"{number} worker" if number == "1" else f"{number} workers"
