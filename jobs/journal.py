"""What a run writes down as it works: metrics.jsonl, TensorBoard, trackers, lines of progress."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from cluster.parts import PartWriter
from cluster.spec import ModelSpec
from cluster.storage import StorageError, upload_folder
from jobs.runs import Run
from jobs.session import say

PROGRESS_EVERY_S = 2.0


def memory_bytes(device: torch.device) -> int:
    """Bytes in use: the peak of the device's allocator, or this process's resident memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def device_name(device: torch.device) -> str:
    """What the device's driver calls it: "cpu", "NVIDIA H100 80GB HBM3"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class Journal:
    """Rank 0's record of one attempt; other ranks hold None instead."""

    def __init__(
        self, run: Run, attempt: int, model: ModelSpec, name: str, total: int, unit: str
    ) -> None:
        self.total, self.unit = total, unit
        # On CPUs the whole process counts: Python, torch and Ray are some 600 MiB of it.
        self.memory_kind = "peak" if torch.cuda.is_available() else "resident"
        self.first: tuple[int, float] | None = None
        self._lines = PartWriter(run.storage, f"{run.path}/{attempt}/metrics.jsonl")
        self._board = Board(run, attempt)
        self._trackers: list[_Tracker] = [_TRACKERS[kind](run.id, name) for kind in model.tracking]
        self._said = 0.0
        self._last: dict[str, Any] = {}

    def step(self, record: dict[str, Any]) -> None:
        """Write one step's line and, every two seconds, say where the run stands."""
        self._last = record
        self._write(record, record)
        if self.first is None:
            self.first = (record["step"] - 1, time.monotonic() - record["step_s"])
        done = record["step"] >= self.total
        if done or time.monotonic() - self._said >= PROGRESS_EVERY_S:
            self._said = time.monotonic()
            say(self._progress(record))

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """Write the validation metrics after ``step`` steps into that step's line."""
        added = {"step": step, "validation": metrics}
        # Of lines with one step the last counts, so it repeats what the step's own line says.
        self._write(self._last | added if self._last.get("step") == step else added, added)
        self._board.publish()
        shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        say(f"validation after step {step}: {shown}")

    def _write(self, line: dict[str, Any], record: dict[str, Any]) -> None:
        self._lines.append(json.dumps(line))
        numbers = _flat(record)
        for name, value in numbers.items():
            if name not in ("step", "time"):
                with suppress(OSError):  # a full disk ends the run where it saves, not here
                    self._board.writer.add_scalar(name, value, record["step"])
        for tracker in self._trackers:
            tracker.log(numbers, record["step"])

    def _progress(self, record: dict[str, Any]) -> str:
        assert self.first is not None
        first, began = self.first
        per_step = (time.monotonic() - began) / max(1, record["step"] - first)
        left = per_step * (self.total - record["step"])
        memory = f"{record['memory_bytes'] / 2**20:,.0f} MiB {self.memory_kind}"
        return (
            f"step {record['step']}/{self.total}  loss {record['loss']:.4f}  "
            f"{record['tokens_per_s']:,.0f} {self.unit}/s  {memory}  {left:.0f} s left"
        )

    def flush(self) -> None:
        """Bring the lines to storage: those before a checkpoint must outlive what it resumes."""
        with suppress(StorageError):  # the checkpoint that follows tells of it
            self._lines.flush()

    def close(self) -> None:
        """Flush everything."""
        try:
            self._lines.close()
        except StorageError as error:
            say(f"warning: the last lines of the metrics were not kept: {error}")
        self._board.close()
        for tracker in self._trackers:
            tracker.close()


def _flat(record: dict[str, Any]) -> dict[str, float]:
    flat = {k: v for k, v in record.items() if isinstance(v, int | float)}
    for name, value in record.get("validation", {}).items():
        flat[f"validation/{name}"] = value
    return flat


class Board:
    """TensorBoard's events of one attempt: beside its metrics, or uploaded there now and then."""

    def __init__(self, run: Run, attempt: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._storage, self._path = run.storage, f"{run.path}/{attempt}/tensorboard"
        direct = run.storage.local_path(self._path)
        self._scratch = None if direct else Path(tempfile.mkdtemp(prefix="slipway-tensorboard-"))
        self.writer: Any = SummaryWriter(str(direct or self._scratch))

    def publish(self) -> None:
        """Bring the store's copy up to date; a store that is away now gets the next one."""
        with suppress(OSError):
            self.writer.flush()
        if self._scratch is not None:
            with suppress(StorageError):
                upload_folder(self._storage, self._scratch, self._path)

    def close(self) -> None:
        """Write everything out."""
        with suppress(OSError):
            self.writer.close()
        self.publish()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


class _Tracker(Protocol):
    def log(self, numbers: dict[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class _Wandb:
    """Weights & Biases through Ray's own set-up, which reads WANDB_API_KEY."""

    def __init__(self, run_id: str, model: str) -> None:
        from ray.air.integrations.wandb import setup_wandb

        self.run = setup_wandb(
            trial_id=run_id, trial_name=run_id, group=model, project="slipway", rank_zero_only=False
        )

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.run.log(numbers, step=step)

    def close(self) -> None:
        self.run.finish()


class _Mlflow:
    """MLflow through Ray's own set-up; the server is MLFLOW_TRACKING_URI."""

    def __init__(self, run_id: str, model: str) -> None:
        from ray.air.integrations.mlflow import setup_mlflow

        self.mlflow = setup_mlflow(
            {},
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
            experiment_name=model,
            run_name=run_id,
            rank_zero_only=False,
        )

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.mlflow.log_metrics(numbers, step=step)

    def close(self) -> None:
        self.mlflow.end_run()


_TRACKERS: dict[str, Callable[[str, str], _Tracker]] = {"wandb": _Wandb, "mlflow": _Mlflow}
