"""Work that can fail on one worker alone: all learn of it, so that none waits for it for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed

from cluster.local_storage import local_error
from cluster.storage import StorageError

T = TypeVar("T")


class AgreedError(StorageError):
    """What storage refused to one worker, raised on every worker: starting anew would not help."""


def together(work: Callable[[], T]) -> list[T]:
    """Every worker's result, by rank; collective.

    Raises AgreedError on all where OSError or StorageError came up on one.
    """
    result: T | None = None
    problem: str | None = None
    try:
        result = work()
    except StorageError as error:
        problem = str(error)
    except OSError as error:
        problem = str(local_error(error, error.filename or "the disk"))
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, (result, problem))
    problems = [text for _, text in found if text is not None]
    if problems:
        raise AgreedError(problems[0])
    return [value for value, _ in found]


def at_rank_0(work: Callable[[], T]) -> T:
    """Rank 0's result, known to all; collective, raises as `together`."""
    is_first = torch.distributed.get_rank() == 0
    return together(work if is_first else lambda: None)[0]  # type: ignore[return-value]
