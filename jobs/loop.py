"""The training loop of one worker: the same lines for every domain, network and ZeRO stage.

A worker knows its place through ``torch.distributed``; who started it (Ray Train, a test) is not
its business. All state of a run lives in storage, so a worker group that starts anew asks storage
where the run stands, whatever ended the one before.
"""

from __future__ import annotations

import math
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed

from cluster.devices import device_named
from cluster.spec import Spec
from cluster.storage import Storage, open_storage
from jobs.agreement import at_rank_0
from jobs.checkpoints import Checkpoints
from jobs.domains import Domain, open_domain
from jobs.engine import Engine, layout
from jobs.export import Trained
from jobs.feed import Feed
from jobs.journal import Journal, memory_bytes
from jobs.prepared import PreparedData
from jobs.runs import Checkpoint, Run, latest_checkpoint
from jobs.schedule import learning_rate, num_steps, steps_per_epoch, warmup_steps
from jobs.scoring import score_rows
from jobs.session import say
from jobs.starts import start_folder


class DivergedError(ValueError):
    """A loss or metric that is not a number, raised on all workers; a restart would not help."""


@dataclass(frozen=True)
class Task:
    """What every worker of a run is told; small and picklable."""

    spec: Spec
    model: str
    run: str
    data: str
    stage: int
    precision: str
    until: int | None = None
    """Step at which the run pauses with a checkpoint, to be continued or not, and publishes
    nothing, not even at its end; None trains to the end and publishes a version."""


@dataclass
class Progress:
    """Where a run stands; ``best`` is the validation metric that the spec names."""

    step: int = 0
    best: float | None = None
    since_best: int = 0

    def judge(self, value: float, higher: bool) -> None:
        """Take a validation's metric into account."""
        better = self.best is None or (value > self.best if higher else value < self.best)
        self.since_best = 0 if better else self.since_best + 1
        self.best = value if better else self.best


class Worker:
    """One rank of a run, from start or resumption to its end."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device = task, device
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()
        self.model = task.spec.model(task.model)
        self.train = self.model.train
        self.storage: Storage = open_storage(task.spec.cluster.storage, task.spec.name)
        self.run = Run(self.storage, task.run)
        data = PreparedData(self.storage, task.data)
        self.domain: Domain = open_domain(
            self.model, data.processor(), start_folder(self.model, self.storage)
        )
        rows = data.rows("train")
        assert rows is not None, "preparation refuses data without training rows"
        self.rows, self.validation = rows, data.rows("validation")
        self.batch = layout(self.train, self.world_size)
        self.total = num_steps(self.train, len(self.rows))
        self.end = min(self.total, task.until or self.total)
        self.warmup = warmup_steps(self.train, len(self.rows))
        per_epoch = steps_per_epoch(self.train, len(self.rows))
        self.checkpoint_every = self.train.checkpoint.every.in_steps(per_epoch, self.total)
        self.validate_every = self.train.validation.every.in_steps(per_epoch, self.total)
        self.higher = self.model.direction == "max"
        self.progress = Progress()

    def work(self) -> dict[str, Any]:
        """Train to the end and publish the best checkpoint's weights; the run's result.

        A run that pauses gives {"step", "metrics"} of where it stands.
        """
        self.engine = Engine(
            self.domain, self.train, self.task.stage, self.task.precision, self.batch
        )
        self._join()
        if self.rank == 0:
            name, unit = self.task.model, self.domain.unit
            self.journal = Journal(self.run, self.attempt, self.model, name, self.total, unit)
            self._announce()
        with Feed(
            self.rows, self.domain, self.batch, self.rank, self.train.seed, self.progress.step
        ) as feed:
            while self.progress.step < self.end and not self._out_of_patience():
                self._step(feed)
                self._after_step()
        if self.rank == 0:
            self.journal.close()
        if self.task.until is not None:
            return {"step": self.progress.step, "metrics": self._measured()}
        return self._finish()

    def _measured(self) -> dict[str, float]:
        """The best that validations have given; nothing where there is no validation part."""
        best = self.progress.best
        return {} if best is None else {self.model.metric: best}

    def _join(self) -> None:
        """Take the next attempt's number and the newest whole checkpoint, the same on all ranks."""
        found = Checkpoints(self.run, 0, 1, self.higher).resume(self.engine)
        resumes = found and {"attempt": found.attempt, "step": found.step}
        info = {"host": socket.gethostname(), "pid": os.getpid(), "resumes": resumes}
        info |= {"workers": self.world_size, "data": self.task.data}
        self.attempt = at_rank_0(lambda: self.run.next_attempt(info))
        keep = self.train.checkpoint.keep
        self.checkpoints = Checkpoints(self.run, self.attempt, keep, self.higher)
        if found is not None:
            self.progress = Progress(found.step, *found.manifest["progress"])

    def _announce(self) -> None:
        say(
            f"{self.run.id}: attempt {self.attempt}, workers: {self.world_size}, ZeRO stage "
            f"{self.task.stage}, {self.task.precision}, {self.engine.num_parameters:,} parameters, "
            f"{len(self.rows):,} rows, step {self.progress.step} of {self.total}"
        )

    def _step(self, feed: Feed) -> None:
        """Run one optimizer step and write its line."""
        began = time.perf_counter()
        step, forward_s, backward_s = self.progress.step, 0.0, 0.0
        micro_batches = feed.next(self.device)
        lr = learning_rate(self.train, step, self.total, self.warmup)
        self.engine.set_lr(lr)
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
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
        torch.distributed.all_reduce(totals)
        loss_sum, count = totals.tolist()  # waits for the device, so that the time is the step's
        self._check_finite(loss_sum, f"the loss at step {step + 1}")
        self.progress.step = step + 1
        step_s = time.perf_counter() - began
        if self.rank == 0:
            self.journal.step(
                {
                    "step": step + 1,
                    "time": time.time(),
                    "loss": loss_sum / self.world_size,
                    "lr": lr,
                    "grad_norm": self.engine.gradient_norm(),
                    "tokens_per_s": count / step_s,
                    "data_s": feed.waited_s,
                    "forward_s": forward_s,
                    "backward_s": backward_s,
                    "step_s": step_s,
                    "memory_bytes": memory_bytes(self.device),
                    **self._utilisation(count / step_s),
                }
            )

    def _utilisation(self, units_per_s: float) -> dict[str, float]:
        """Model FLOPs utilisation, where the device's peak is known (arXiv 2204.02311, app. B)."""
        if self.device.type != "cuda":
            return {}
        device = device_named(torch.cuda.get_device_name(self.device))
        if device is None:
            return {}
        flops = self.domain.flops(self.engine.engine.module) * units_per_s
        return {"mfu": flops / (device.flops * self.world_size)}

    def _after_step(self) -> None:
        """Validate and save where they are due."""
        step = self.progress.step
        last = step == self.end
        saves = last or step % self.checkpoint_every == 0
        validates = last or step % self.validate_every == 0
        if saves or validates:
            self.engine.share_buffers()
        value = self._validate() if validates else None
        if saves or self._out_of_patience():
            progress = [self.progress.best, self.progress.since_best]
            if self.rank == 0:
                self.journal.flush()
            self.checkpoints.save(
                self.engine,
                step,
                {"metric": value, "progress": progress, "precision": self.task.precision},
            )

    def _check_finite(self, value: float, what: str) -> None:
        """Raise DivergedError on every worker where the value, known to all, is not a number."""
        if not math.isfinite(value):
            saved = latest_checkpoint(self.run)
            kept = f"step {saved.step} is kept" if saved else "nothing was saved before it"
            raise DivergedError(
                f"{what} is {value}: the training diverged ({kept}); lower train.optimizer.lr, "
                "lengthen train.schedule.warmup or set train.clip, and run again"
            )

    def _validate(self) -> float | None:
        """Score the validation split; returns the metric that decides, None without the split."""
        if self.validation is None:
            return None
        metrics = score_rows(
            self.domain, self.engine.network, self.validation, self.batch.micro_batch,
            self.device, self.rank, self.world_size,
        )  # fmt: skip
        if self.rank == 0:
            self.journal.validation(self.progress.step, metrics)
        value = metrics[self.model.metric]
        self._check_finite(value, f"validation {self.model.metric} at step {self.progress.step}")
        self.progress.judge(value, self.higher)
        return value

    def _out_of_patience(self) -> bool:
        patience = self.train.patience
        return patience is not None and self.progress.since_best >= patience

    def _finish(self) -> dict[str, Any]:
        """Publish the best checkpoint's weights as a version."""
        best = self.checkpoints.best()
        if best is not None and best.step != self.progress.step:
            self.checkpoints.load(self.engine, best)
        weights = self.engine.weights()
        return at_rank_0(lambda: self._export(weights or {}, best))

    def _export(self, weights: dict[str, torch.Tensor], best: Checkpoint | None) -> dict[str, Any]:
        step = best.step if best else self.progress.step
        trained = Trained(self.model, self.run, self.attempt, self.task.data, self.task.precision)
        version = trained.publish(
            self.task.model, self.domain, self.engine.engine.module, weights, step, best
        )
        outcome = {
            "version": version,
            "steps": self.progress.step,
            "metrics": {self.model.metric: best.manifest["metric"]} if best else {},
        }
        return self.run.finish(outcome, self.attempt)
