"""One worker under Ray Train: its loop, and the threads that speak to the driver's watch."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import psutil
import ray
import ray.train
import ray.train.torch

from jobs.agreement import AgreedError
from jobs.divergence import DivergedError
from jobs.pulse import Pulse
from jobs.task import Task
from jobs.watch import REPORT_EVERY_S, Place

_here: Pulse | None = None
"""The pulse of this process's worker; a signal that comes before it is kept in `_told`."""
_told: list[str] = []


def work(config: dict[str, Any]) -> dict[str, Any] | str:
    """Train in this process; what a restart cannot mend is returned, not raised.

    Raised, it would be tried again from a checkpoint.
    """
    from jobs.loop import Worker  # DeepSpeed: the driver and Ray Train's controller do without

    global _here
    task: Task = config["task"]
    pulse = _here = Pulse()
    for reason in _told:
        pulse.leave(reason)
    threading.Thread(target=_report, args=(pulse, config["watch"]), daemon=True).start()
    if config["notices"]:
        threading.Thread(target=_heed_notices, args=(pulse,), daemon=True).start()
    worker = Worker(task, ray.train.torch.get_device(), pulse)
    try:
        return worker.work()
    except (AgreedError, DivergedError) as error:
        return {"superseded": str(error)} if worker.superseded() else str(error)


def _report(pulse: Pulse, watch: Any) -> None:
    """Say every two seconds that this worker lives, and do as it is told."""
    context = ray.get_runtime_context()
    place = Place(
        rank=ray.train.get_context().get_world_rank(),
        host=socket.gethostname(),
        node=context.get_node_id(),
        pid=os.getpid(),
        began=psutil.Process().create_time(),
    )
    stack = None
    while True:
        try:
            orders = ray.get(watch.report.remote(place, pulse.beats, pulse.phase, stack))
        except ray.exceptions.RayError:
            orders = {}  # it starts anew, or the driver is gone, and this group will be
        if "leave" in orders:
            pulse.leave(orders["leave"])
        stack = pulse.stack() if orders.get("stack") else None
        time.sleep(REPORT_EVERY_S if stack is None else 0.2)


def _heed_notices(pulse: Pulse) -> None:
    """Leave when a node of this group is to be taken away: drained, or a spot node on notice."""
    while pulse.leaving is None:
        info = ray.train.get_preemption_info()  # waits for all workers, which all ask like this
        if info is not None:
            nodes = info.preempted_node_ids
            pulse.leave(f"a notice to leave node {', '.join(nodes)}", nodes)
        time.sleep(REPORT_EVERY_S)


def _heed_signals() -> None:
    """In the main thread of a worker: SIGTERM asks it to save and leave, rather than ends it."""

    def leave(*_: Any) -> None:
        _told.append("SIGTERM")
        if _here is not None:
            _here.leave("SIGTERM")

    signal.signal(signal.SIGTERM, leave)


class _Backend(ray.train.torch.TorchConfig().backend_cls):  # type: ignore[misc]
    """Ray's torch backend, which also has each worker heed SIGTERM."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(_heed_signals)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Leave the process group as it is: Ray's own would wait half a minute for the stopped."""


@dataclass
class TorchConfig(ray.train.torch.TorchConfig):  # type: ignore[misc]
    """Ray's torch configuration with workers that leave in good order."""

    @property
    def backend_cls(self) -> type:
        return _Backend
