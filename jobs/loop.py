"""The training loop of one worker: the same lines for every domain, network and ZeRO stage.

A worker knows its place through ``torch.distributed``; who started it (Ray Train, a test) is not
its business. All state of a run lives in storage, so a worker group that starts anew asks storage
where the run stands, whatever ended the one before.
"""

from __future__ import annotations

import math
import os
import socket
from typing import Any

import torch
import torch.distributed

from cluster.storage import Storage, open_storage
from jobs.agreement import at_rank_0, together
from jobs.calibration import marks
from jobs.checkpoints import Checkpoints
from jobs.divergence import REWINDS, DivergedError, LossWatch, Skip, skips_of
from jobs.domains import Domain, open_domain
from jobs.engine import Engine, layout
from jobs.export import Trained
from jobs.feed import Feed
from jobs.journal import Journal, device_name
from jobs.prepared import PreparedData
from jobs.pulse import Pulse
from jobs.runs import Checkpoint, Run, latest_checkpoint
from jobs.schedule import learning_rate
from jobs.scoring import score_rows
from jobs.session import say
from jobs.starts import start_folder
from jobs.steps import Steps
from jobs.task import Plan, Progress, Task


class Worker:
    """One rank of a run, from start or resumption to its end."""

    def __init__(self, task: Task, device: torch.device, pulse: Pulse | None = None) -> None:
        self.task, self.device, self.pulse = task, device, pulse or Pulse()
        self.leaving: str | None = None
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
        self.plan = Plan.of(self.train, len(self.rows), task.until)
        self.higher = self.model.direction == "max"
        self.progress, self.losses = Progress(), LossWatch()

    def work(self) -> dict[str, Any]:
        """Train to the end and publish the best checkpoint's weights; the run's result.

        A run that pauses gives {"step", "metrics"} of where it stands, one whose workers were
        asked to leave {"left": why, "avoid": nodes, "step"}.
        """
        self.engine = Engine(
            self.domain, self.train, self.task.stage, self.task.precision, self.batch
        )
        self.steps = Steps(self.engine, self.domain, self.device)
        self._join()
        while not self._through():
            pass
        if self.leaving is not None and self.progress.step < self.plan.end:
            return {"left": self.leaving, "avoid": self.avoid, "step": self.progress.step}
        if self.task.until is not None:
            return {"step": self.progress.step, "metrics": self._measured()}
        with self.pulse.busy("publishing"):
            return self._finish()

    def superseded(self) -> bool:
        """Whether a newer attempt has taken over, so that nothing may be written any more."""
        return hasattr(self, "attempt") and not self.run.is_latest(self.attempt)

    def _measured(self) -> dict[str, float]:
        """The best that validations have given; nothing where there is no validation part."""
        best = self.progress.best
        return {} if best is None else {self.model.metric: best}

    def _join(self, begun: int | None = None) -> None:
        """Take the next attempt's number and the newest whole checkpoint, the same on all ranks.

        A run that diverged in the last of ``begun`` steps leaves out the data since then.
        """
        found = Checkpoints(self.run, 0, 1, self.higher).resume(self.engine)
        self.skips = at_rank_0(lambda: skips_of(self.run))
        if begun is not None:
            if found is None:
                raise DivergedError("the training diverged, and no checkpoint is whole")
            self.skips.append(Skip(found.step, begun - found.step))
        resumes = found and {"attempt": found.attempt, "step": found.step}
        info = {"host": socket.gethostname(), "pid": os.getpid(), "resumes": resumes}
        info |= {"workers": self.world_size, "data": self.task.data, "skips": self.skips}
        info |= marks(self.task.spec, self.model, device_name(self.device))
        self.attempt = at_rank_0(lambda: self.run.next_attempt(info))
        if found is not None:
            self.progress = Progress(found.step, *found.manifest["progress"])
            self.losses = LossWatch(found.manifest["first_losses"])
        if self.rank == 0:
            name, unit = self.task.model, self.domain.unit
            self.journal = Journal(self.run, self.attempt, self.model, name, self.plan.total, unit)
            self._announce()
        flush = self.journal.flush if self.rank == 0 else lambda: None
        keep = self.train.checkpoint.keep
        self.checkpoints = Checkpoints(self.run, self.attempt, keep, self.higher, flush)
        self.checkpoints.published = found.step if found else None

    def _through(self) -> bool:
        """Train to the end; False where the run diverged, and has gone back."""
        try:
            self._train()
        except DivergedError as error:
            self._go_back(error)
            return False
        return True

    def _train(self) -> None:
        try:
            with Feed(
                self.rows, self.domain, self.batch, self.rank, self.train.seed,
                self.progress.step, self.skips,
            ) as feed:  # fmt: skip
                while not self._is_over():
                    self._step(feed)
                    self._after_step()
        finally:
            if self.rank == 0:
                self.journal.close()

    def _go_back(self, error: DivergedError) -> None:
        """Resume from the last checkpoint without the data since, or say why that is not done."""
        self.checkpoints.drain()
        saved = at_rank_0(lambda: latest_checkpoint(self.run))
        kept = f"the last good checkpoint is of step {saved.step}" if saved else "none was saved"
        cause = f"{error}: the training diverged ({kept})"
        if self.train.on_nan == "stop" or saved is None or len(self.skips) >= REWINDS:
            again = f" for the {REWINDS + 1}th time" if len(self.skips) >= REWINDS else ""
            raise DivergedError(
                f"{cause}{again}; lower train.optimizer.lr, lengthen train.schedule.warmup, set "
                "train.clip or train.on_nan: rewind, and run again"
            ) from None
        if self.rank == 0:
            say(f"warning: {cause}; going back to it, without the data of the steps since")
        self._join(self.begun)

    def _announce(self) -> None:
        say(
            f"{self.run.id}: attempt {self.attempt}, workers: {self.world_size}, ZeRO stage "
            f"{self.task.stage}, {self.task.precision}, {self.engine.num_parameters:,} parameters, "
            f"{len(self.rows):,} rows, step {self.progress.step} of {self.plan.total}"
        )

    def _step(self, feed: Feed) -> None:
        """Run one optimizer step and write its line."""
        step = self.progress.step
        self.begun = step + 1
        lr = learning_rate(self.train, step, self.plan.total, self.plan.warmup)
        self.pulse.step()
        measured = self.steps.run(feed, step, lr, self._signals)
        self.pulse.step()
        # In fp16 a step whose gradients overflow is left out, which its loss scaling counts on.
        norm = measured.norm if self.task.precision != "fp16" else 0.0
        self._refuse(self.losses.problem(measured.loss, norm), f"at step {step + 1}")
        self.progress.step = step + 1
        if self.rank == 0:
            self.journal.step(self.steps.record(step + 1, lr, measured))
        delivered, leaving = measured.signals
        if leaving:
            asked = together(lambda: (self.pulse.leaving, self.pulse.avoid))
            self.leaving = "; ".join(sorted({reason for reason, _ in asked if reason}))
            self.avoid = sorted({node for _, nodes in asked for node in nodes})
        if delivered == self.world_size:
            self.checkpoints.settle()

    def _signals(self) -> tuple[float, ...]:
        """What this worker tells the others with each step."""
        return float(self.checkpoints.delivered), float(self.pulse.leaving is not None)

    def _after_step(self) -> None:
        """Validate and save where they are due."""
        step = self.progress.step
        validates = step == self.plan.end or step % self.plan.validate_every == 0
        saves = step % self.plan.checkpoint_every == 0
        if saves or validates or self._is_over():
            self.engine.share_buffers()
        value = None
        if validates:
            with self.pulse.busy("validation"):
                value = self._validate()
        if saves or self._is_over():
            with self.pulse.busy("saving"):
                self._save(value)

    def _save(self, value: float | None) -> None:
        state = {
            "metric": value,
            "progress": [self.progress.best, self.progress.since_best],
            "first_losses": self.losses.first,
            "precision": self.task.precision,
        }
        self.checkpoints.save(self.engine, self.progress.step, state, self._is_over())

    def _refuse(self, problem: str | None, when: str) -> None:
        """Raise DivergedError where there is a problem: on all workers, who know the same."""
        if problem is not None:
            raise DivergedError(f"{problem} {when}")

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
        finite = math.isfinite(value)
        problem = None if finite else f"validation {self.model.metric} is {value}"
        self._refuse(problem, f"after step {self.progress.step}")
        self.progress.judge(value, self.higher)
        return value

    def _is_over(self) -> bool:
        """Whether no further step follows, here and now."""
        ended = self.progress.step >= self.plan.end or self.leaving is not None
        return ended or self._out_of_patience()

    def _out_of_patience(self) -> bool:
        patience = self.train.patience
        return patience is not None and self.progress.since_best >= patience

    def _finish(self) -> dict[str, Any]:
        """Publish the best checkpoint's weights as a version."""
        at_rank_0(lambda: self.run.check_latest(self.attempt))
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
