"""Batches for one worker, prepared one step ahead in a thread while the step computes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.divergence import Skip, data_step
from jobs.domains import Domain
from jobs.order import rows_of_step, rows_of_step_by_length
from jobs.rows import Rows

if TYPE_CHECKING:
    from jobs.engine import Layout

Batch = dict[str, Tensor]


class Feed:
    """The micro-batches of each step in order; which rows they hold depends on (seed, step, skips).

    ``waited_s``: seconds that the last :meth:`next` kept the training step waiting.
    """

    def __init__(
        self,
        rows: Rows,
        domain: Domain,
        layout: Layout,
        rank: int,
        seed: int,
        start: int,
        skips: Sequence[Skip] = (),
    ) -> None:
        self.rows, self.domain, self.layout, self.rank, self.seed = rows, domain, layout, rank, seed
        self.skips = tuple(skips)
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
        step = data_step(step, self.skips)
        size, world_size = self.layout.global_batch, self.layout.world_size
        parts = self._chosen(step).reshape(-1, self.layout.micro_batch)
        numbers = np.arange(len(parts))
        # those in order by length are dealt, so that no worker has the longest only
        dealt = self.domain.batched_by is not None
        mine = (
            numbers[self.rank :: world_size] if dealt else np.split(numbers, world_size)[self.rank]
        )
        first = step * size + mine * self.layout.micro_batch
        return [
            self.domain.collate(self.rows.take(parts[number]), self._seed(sample))
            for number, sample in zip(mine.tolist(), first.tolist(), strict=True)
        ]

    def _chosen(self, step: int) -> NDArray[np.int64]:
        """The rows of a step, for all workers."""
        size, name = self.layout.global_batch, self.domain.batched_by
        if name is None:
            return rows_of_step(self.seed, step, size, len(self.rows))
        lengths = partial(self.rows.lengths, name)
        return rows_of_step_by_length(self.seed, step, size, len(self.rows), lengths)

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
