"""One optimizer step: what it computes, what it took, and what the workers learn of each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed

from cluster.devices import device_named
from jobs.domains import Domain
from jobs.engine import Engine
from jobs.feed import Feed
from jobs.journal import memory_bytes


@dataclass(frozen=True)
class Measured:
    """A step over all workers, the same on each of them but for the times."""

    loss: float
    """Mean over the global batch."""
    norm: float
    """Of the gradient, before clipping."""
    count: float
    """Tokens, pictures or whatever the domain counts."""
    signals: tuple[float, ...]
    """Sums over the workers of what each put in."""
    data_s: float
    forward_s: float
    backward_s: float
    step_s: float


class Steps:
    """Runs the steps of one worker's engine."""

    def __init__(self, engine: Engine, domain: Domain, device: torch.device) -> None:
        self.engine, self.domain, self.device = engine, domain, device
        self.world_size = torch.distributed.get_world_size()

    def run(
        self, feed: Feed, step: int, lr: float, signals: Callable[[], Sequence[float]]
    ) -> Measured:
        """Take 0-based ``step`` with the feed's next rows; collective.

        What ``signals`` gives after the work of the step travels with the loss, so that telling
        each other costs no round of its own.
        """
        began = time.perf_counter()
        forward_s, backward_s = 0.0, 0.0
        micro_batches = feed.next(self.device)
        self.engine.set_lr(lr)
        totals = torch.zeros(3, dtype=torch.float64, device=self.device)
        for number, batch in enumerate(micro_batches):
            start = time.perf_counter()
            loss = self.engine.forward(batch, step, number)
            middle = time.perf_counter()
            self.engine.backward(loss)
            self.engine.step()
            forward_s += middle - start
            backward_s += time.perf_counter() - middle
            totals[0] += loss.detach() / len(micro_batches)
            totals[1] += self.domain.count(batch)
        totals[2] = self.engine.gradient_norm()
        totals = torch.cat([totals, torch.tensor(signals()).to(totals)])
        torch.distributed.all_reduce(totals)
        # Waits for the device, so that the time is the step's.
        loss_sum, count, norm_sum, *told = totals.tolist()
        return Measured(
            loss=loss_sum / self.world_size,
            norm=norm_sum / self.world_size,
            count=count,
            signals=tuple(told),
            data_s=feed.waited_s,
            forward_s=forward_s,
            backward_s=backward_s,
            step_s=time.perf_counter() - began,
        )

    def record(self, step: int, lr: float, measured: Measured) -> dict[str, Any]:
        """The line of metrics.jsonl after ``step`` steps."""
        per_s = measured.count / measured.step_s
        return {
            "step": step,
            "time": time.time(),
            "loss": measured.loss,
            "lr": lr,
            "grad_norm": measured.norm,
            "tokens_per_s": per_s,
            "data_s": measured.data_s,
            "forward_s": measured.forward_s,
            "backward_s": measured.backward_s,
            "step_s": measured.step_s,
            "memory_bytes": memory_bytes(self.device),
            **self._utilisation(per_s),
        }

    def _utilisation(self, units_per_s: float) -> dict[str, float]:
        """Model FLOPs utilisation, where the device's peak is known (arXiv 2204.02311, app. B)."""
        if self.device.type != "cuda":
            return {}
        device = device_named(torch.cuda.get_device_name(self.device))
        if device is None:
            return {}
        flops = self.domain.flops(self.engine.engine.module) * units_per_s
        return {"mfu": flops / (device.flops * self.world_size)}
