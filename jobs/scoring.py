"""Scores of a network over a split: what became of each record, from all workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import nn

from jobs.domains import Domain, Outcomes
from jobs.feed import to_device
from jobs.rows import Rows


@torch.no_grad()
def score_rows(
    domain: Domain,
    network: nn.Module,
    rows: Rows,
    batch_size: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, float]:
    """Return the domain's metrics over all rows; collective where ``world_size`` is above 1.

    Every worker runs the same number of forward passes, because at ZeRO stage 3 each of them
    gathers parameters from all; a worker that has run out of rows repeats row 0 and adds nothing.
    """
    network.eval()
    found: list[Outcomes] = []
    for number in range(math.ceil(len(rows) / (batch_size * world_size))):
        start = (number * world_size + rank) * batch_size
        wanted = np.arange(start, min(start + batch_size, len(rows)))
        taken = rows.take(wanted if len(wanted) else np.zeros(1, np.int64))
        outcomes = domain.outcomes(network, to_device(domain.collate(taken, None), device))
        if len(wanted):
            found.append(outcomes)
    network.train()
    return domain.metrics(joined(_over_workers(found, world_size)))


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of several batches as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _over_workers(found: list[Outcomes], world_size: int) -> list[Outcomes]:
    if world_size == 1:
        return found
    own = joined(found) if found else None
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, own)
    return [part for part in gathered if part is not None]
