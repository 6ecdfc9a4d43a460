"""Runs and their attempts: ids, numbers that fence out zombies, metrics and checkpoints that count.

A run is `runs/<id>/` with run.json. Each attempt at it is `runs/<id>/<n>/` with attempt.json,
which says what it resumed from: `"resumes": {"attempt": k, "step": s}` or null. Going back from
the latest attempt by `resumes` gives the chain of attempts that count, each up to the step that
its successor took over at. What any attempt publishes beyond that, at any time, nobody reads.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cluster.storage import MissingError, Storage, StorageError, encode_json
from jobs.progress import (
    Checkpoint,
    checkpoints,
    joined_metrics,
    latest_checkpoint,
    publish_metrics,
)

__all__ = [
    "Attempt",
    "Checkpoint",
    "Run",
    "State",
    "checkpoints",
    "joined_metrics",
    "latest_checkpoint",
    "list_runs",
    "owner",
    "publish_metrics",
    "stage_digest",
]

State = Literal["complete", "running", "failed", "stopped", "interrupted"]


class MissingRunError(ValueError):
    """There is no run of that id."""

    exit_code = 2


@dataclass(frozen=True)
class Attempt:
    """One try at a run: its number from 1 and what attempt.json holds."""

    run: str
    number: int
    info: dict[str, Any]

    @property
    def path(self) -> str:
        return f"runs/{self.run}/{self.number}"


@dataclass(frozen=True)
class Run:
    """One execution of a stage of a model, under an id that is also its folder."""

    storage: Storage
    id: str

    @property
    def path(self) -> str:
        return f"runs/{self.id}"

    @classmethod
    def open(
        cls,
        storage: Storage,
        model: str,
        stage: str,
        digest: str,
        again: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> Run:
        """The newest run of this model, stage and digest; a new one where there is none.

        The id is `model-stage-7f3a` from the digest's first digits, more of them where another
        digest begins alike. `again` always opens a new run: `...-2`, `...-3`, and so on. `more` is
        kept in a new run's run.json.
        """
        number = max(1, _newest(storage, model, stage, digest) + again)
        info: dict[str, Any] = {"model": model, "stage": stage, "digest": digest}
        info |= {"owner": owner(), "created": time.time(), **(more or {})}
        length = 4
        while True:
            suffix = f"-{number}" if number > 1 else ""
            run = cls(storage, f"{model}-{stage}-{digest[:length]}{suffix}")
            if storage.create(f"{run.path}/run.json", encode_json({**info, "number": number})):
                return run
            if run.info()["digest"] != digest:
                assert length < len(digest), "two runs under one digest and one id"
                length += 1
            elif again:
                number += 1
            else:
                return run

    def info(self) -> dict[str, Any]:
        """run.json: model, stage, digest, owner (user@host), created."""
        try:
            return dict(self.storage.read_json(f"{self.path}/run.json"))
        except MissingError:
            names = ", ".join(run.id for run in list_runs(self.storage)) or "none yet"
            raise MissingRunError(f"there is no run {self.id!r}; there are: {names}") from None

    def next_attempt(self, info: Mapping[str, Any]) -> int:
        """Takes the next number; an `info` without "resumes" gets the latest checkpoint as that."""
        number = max((a.number for a in self.attempts()), default=0) + 1
        while True:
            content = {"started": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
            content |= {"token": uuid.uuid4().hex, **info}
            if "resumes" not in info:
                last = latest_checkpoint(self)
                content["resumes"] = last and {"attempt": last.attempt, "step": last.step}
            if self.storage.create(f"{self.path}/{number}/attempt.json", encode_json(content)):
                return number
            number += 1

    def is_latest(self, number: int) -> bool:
        """Whether no newer attempt has taken over."""
        return not self.storage.exists(f"{self.path}/{number + 1}/attempt.json")

    def check_latest(self, number: int) -> None:
        """Raises StorageError where a newer attempt has taken over: this one writes no more."""
        if not self.is_latest(number):
            raise StorageError(f"attempt {number + 1} of {self.id} has taken over from {number}")

    def attempts(self) -> list[Attempt]:
        """All attempts in the order of their numbers."""
        numbers = sorted(int(n) for n in self.storage.folders(self.path) if n.isdigit())
        found = []
        for number in numbers:
            try:
                info = self.storage.read_json(f"{self.path}/{number}/attempt.json")
            except MissingError:
                continue
            found.append(Attempt(self.id, number, info))
        return found

    def finish(self, result: Mapping[str, Any], attempt: int | None = None) -> dict[str, Any]:
        """Records the result, once an attempt (the latest by default); returns the one that stands.

        A result counts only while its attempt is the latest.
        """
        number = attempt or max((a.number for a in self.attempts()), default=1)
        path = f"{self.path}/{number}/result.json"
        self.storage.create(path, encode_json({"attempt": number, **result}))
        return dict(self.storage.read_json(path))

    def result(self) -> dict[str, Any] | None:
        """The latest attempt's result: one that a superseded attempt publishes is ignored."""
        return self._of_latest("result.json")

    def fail(self, attempt: int, reason: str) -> None:
        """Records why the attempt ended without a result."""
        self._end(attempt, "failed", reason)

    def stopped(self, attempt: int, reason: str) -> None:
        """Records that somebody ended the attempt on purpose."""
        self._end(attempt, "stopped", reason)

    def end(self) -> dict[str, Any] | None:
        """{"state", "reason", "time"} where the latest attempt failed or was stopped."""
        return self._of_latest("end.json")

    def state(self, is_alive: Callable[[Attempt], bool]) -> State:
        """What became of the latest attempt; `is_alive` is asked only where storage cannot tell."""
        attempts = self.attempts()
        if self.result() is not None:
            return "complete"
        end = self.end()
        if end is not None:
            return "stopped" if end["state"] == "stopped" else "failed"
        return "running" if attempts and is_alive(attempts[-1]) else "interrupted"

    def _end(self, attempt: int, state: str, reason: str) -> None:
        content = {"state": state, "reason": reason, "time": time.time()}
        self.storage.create(f"{self.path}/{attempt}/end.json", encode_json(content))

    def _of_latest(self, name: str) -> dict[str, Any] | None:
        attempts = self.attempts()
        if not attempts:
            return None
        try:
            return dict(self.storage.read_json(f"{attempts[-1].path}/{name}"))
        except MissingError:
            return None


def stage_digest(parts: Mapping[str, Any]) -> str:
    """SHA-256 in hex of the parts as canonical JSON: key order and spelling of numbers are one."""
    text = json.dumps(
        parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def list_runs(storage: Storage) -> list[Run]:
    """All runs, sorted by id; a folder whose run.json is gone (being removed) is none."""
    names = storage.folders("runs")
    return [Run(storage, name) for name in names if storage.exists(f"runs/{name}/run.json")]


def owner() -> str:
    """user@host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _newest(storage: Storage, model: str, stage: str, digest: str) -> int:
    """The highest number among this digest's runs; 0 where there is none."""
    pattern = re.compile(re.escape(f"{model}-{stage}-") + r"([0-9a-f]{4,64})(?:-(\d+))?")
    newest = 0
    for name in storage.folders("runs"):
        match = pattern.fullmatch(name)
        if match and digest.startswith(match[1]) and _is_of(storage, name, digest):
            newest = max(newest, int(match[2] or 1))
    return newest


def _is_of(storage: Storage, name: str, digest: str) -> bool:
    try:
        return bool(storage.read_json(f"runs/{name}/run.json")["digest"] == digest)
    except MissingError:
        return False
