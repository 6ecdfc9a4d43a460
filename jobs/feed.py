"""Batches for one worker, prepared one step ahead in a thread while the step computes."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from torch import Tensor

from jobs.domains import Domain
from jobs.engine import Layout
from jobs.order import rows_of_step
from jobs.rows import Rows

Batch = dict[str, Tensor]


class Feed:
    """The micro-batches of each step in order; which rows they hold depends on (seed, step) alone.

    ``waited_s``: seconds that the last :meth:`next` kept the training step waiting.
    """

    def __init__(
        self, rows: Rows, domain: Domain, layout: Layout, rank: int, seed: int, start: int
    ) -> None:
        self.rows, self.domain, self.layout, self.rank, self.seed = rows, domain, layout, rank, seed
        self.step, self.waited_s = start, 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._ahead: Future[list[Batch]] = self._pool.submit(self._prepare, start)

    def next(self, device: torch.device) -> list[Batch]:
        """Return this step's micro-batches on ``device`` and start on the next step's."""
        began = time.perf_counter()
        batches = self._ahead.result()
        self.step += 1
        self._ahead = self._pool.submit(self._prepare, self.step)
        if device.type != "cpu":
            batches = [to_device(batch, device) for batch in batches]
        self.waited_s = time.perf_counter() - began
        return batches

    def _prepare(self, step: int) -> list[Batch]:
        chosen = rows_of_step(self.seed, step, self.layout.global_batch, len(self.rows))
        share = self.layout.global_batch // self.layout.world_size
        mine = chosen[self.rank * share : (self.rank + 1) * share]
        parts = np.split(mine, self.layout.accumulation)
        first = step * self.layout.global_batch + self.rank * share
        return [
            self.domain.collate(self.rows.take(part), self._seed(first + i * len(part)))
            for i, part in enumerate(parts)
        ]

    def _seed(self, sample: int) -> int:
        """Seed of a micro-batch's augmentation, from the number of its first sample."""
        return int(np.random.SeedSequence((self.seed, sample)).generate_state(1, np.uint32)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch without waiting for the copy."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
