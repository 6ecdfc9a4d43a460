"""Scores of a network over a split: additive sums over batches, then over workers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import nn

from jobs.domains import Domain
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
    sums: dict[str, float] = {}
    for number in range(math.ceil(len(rows) / (batch_size * world_size))):
        start = (number * world_size + rank) * batch_size
        wanted = np.arange(start, min(start + batch_size, len(rows)))
        taken = rows.take(wanted if len(wanted) else np.zeros(1, np.int64))
        scores = domain.score(network, to_device(domain.collate(taken, None), device))
        for name, value in scores.items():
            sums[name] = sums.get(name, 0.0) + (value if len(wanted) else 0.0)
    network.train()
    return domain.metrics(_over_workers(sums, world_size))


def _over_workers(sums: dict[str, float], world_size: int) -> dict[str, float]:
    if world_size == 1:
        return sums
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, sums)
    return {name: sum(part[name] for part in gathered) for name in sums}
