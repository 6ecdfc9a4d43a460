"""The same function over many numbered pieces, results in order: on a cluster or right here."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def in_order(function: Callable[[int], Iterator[T]], num_pieces: int) -> Iterator[T]:
    """All results of function(0), function(1), ... in this order, with few in memory at a time.

    Inside a Ray job Ray Data runs the pieces wherever CPUs are free; `function` and results must
    pickle. Otherwise they run in this process: so does a single piece, which is done before Ray
    Data has started (3 s), and so do all where every CPU is taken, as they would wait for ever.
    """
    if num_pieces > 1 and _has_free_cpu():
        yield from _by_ray_data(function, num_pieces)
        return
    for piece in range(num_pieces):
        yield from function(piece)


def _has_free_cpu() -> bool:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    return bool(ray.available_resources().get("CPU", 0) >= 1)


def _by_ray_data(function: Callable[[int], Iterator[T]], num_pieces: int) -> Iterator[T]:
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    shared = ray.put(function)

    def run(row: dict[str, Any]) -> Iterator[dict[str, bytes]]:
        work: Callable[[int], Iterator[Any]] = ray.get(shared)
        for result in work(int(row["id"])):
            yield {"result": pickle.dumps(result, protocol=5)}

    pieces = ray.data.range(num_pieces, override_num_blocks=num_pieces)
    try:
        for row in pieces.flat_map(run, num_cpus=1).iter_rows():
            yield pickle.loads(row["result"])  # from our own processes, never from storage
    except ray.exceptions.RayError as error:
        raise _origin(error) from error


def _origin(error: BaseException) -> BaseException:
    """The user's error that a task raised, without Ray's account of the task around it."""
    inner: BaseException | None = error
    while inner is not None:
        cause = getattr(inner, "cause", None) or inner.__cause__
        if isinstance(cause, ValueError) and type(cause).__module__.split(".")[0] != "ray":
            return cause
        inner = cause if cause is not inner else None
    return error
