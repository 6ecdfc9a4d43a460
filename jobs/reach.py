"""Processes on whatever node of the cluster: to see where they are stuck, and to end them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.watch import Place

REACH_S = 15.0


def stack_of(place: Place) -> str:
    """The stack of a process that cannot tell it itself, by py-spy, or why there is none."""
    return _on_node(_stack, place) or f"{place.host} does not answer"


def end(place: Place) -> None:
    """Kill a worker, stopped or not."""
    _on_node(_end, place)


def _on_node(work: Callable[[Place], str], place: Place) -> str | None:
    """Do it here, or in a task on the node; None where that takes too long."""
    if place.node == ray.get_runtime_context().get_node_id():
        return work(place)
    strategy = NodeAffinitySchedulingStrategy(place.node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(work)
    try:
        found: str = ray.get(task.remote(place), timeout=REACH_S)
    except ray.exceptions.RayError:
        return None
    return found


def _process(place: Place) -> psutil.Process | None:
    try:
        found = psutil.Process(place.pid)
        return found if found.create_time() == place.began else None
    except psutil.NoSuchProcess:
        return None


def _stack(place: Place) -> str:
    process = _process(place)
    if process is None:
        return "the process is gone"
    spy = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    command = [spy, "dump", "--nonblocking", "--pid", str(place.pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REACH_S / 2)
        shown = done.stdout or done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        shown = str(error)
    return f"the process is {process.status()}; py-spy says:\n{shown.strip()}"


def _end(place: Place) -> str:
    process = _process(place)
    if process is not None:
        process.send_signal(signal.SIGKILL)
    return ""
