"""One worker under Ray Train: its loop, and the threads that speak to the driver's watch."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

import psutil
import ray
import ray.train

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
    # The driver and Ray Train's controller, which read this module, do without torch.
    import ray.train.torch
    import torch

    from jobs.agreement import AgreedError
    from jobs.divergence import DivergedError
    from jobs.loop import Worker

    global _here
    task: Task = config["task"]
    pulse = _here = Pulse()
    for reason in _told:
        pulse.leave(reason)
    threading.Thread(
        target=_report, args=(pulse, config["watch"], config["group"]), daemon=True
    ).start()
    if config["notices"]:
        threading.Thread(target=_heed_notices, args=(pulse,), daemon=True).start()
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    worker = Worker(task, device, pulse)
    try:
        return worker.work()
    except (AgreedError, DivergedError) as error:
        return {"superseded": str(error)} if worker.superseded() else str(error)


def _report(pulse: Pulse, watch: Any, group: str) -> None:
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
            orders = ray.get(watch.report.remote(group, place, pulse.beats, pulse.phase, stack))
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


def told(reason: str) -> None:
    """Ask this process's worker to save and leave, now or as soon as there is one."""
    _told.append(reason)
    if _here is not None:
        _here.leave(reason)
