"""The versions that a replica holds: loaded, warmed up, exchanged when an alias moves."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage import MissingError, Storage
from jobs.bundles import BundleError, Version, fetch_bundle, resolve
from jobs.domains import Loaded, Settles
from serve.errors import ServiceError
from serve.tasks import TASKS, Task

MOST_PINNED = 2
"""Versions beside the traffic's that are kept because somebody asked for them by number."""
log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Held:
    """A version in memory."""

    number: int
    loaded: Loaded
    bundle: Mapping[str, Any]


class Shelf:
    """A model's versions, by the aliases that share its traffic, and those asked for by number.

    `refresh` and `find` may block (storage, loading) and are called in threads; `pick` never does.
    """

    def __init__(
        self,
        storage: Storage,
        model: str,
        opened: Callable[[str, str, Path], Loaded],
        task: tuple[str, str],
    ) -> None:
        self.storage = storage
        self.model = model
        self.trouble: dict[str, str] = {}
        """Alias -> why it still answers with an earlier version, or with none."""
        self._open = opened
        self._task = task
        self._shares: dict[str, float] = {}
        self._live: dict[str, Held] = {}
        self._pinned: dict[int, Held] = {}
        self._failed: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def live(self) -> dict[str, Held]:
        """Alias -> its version."""
        return dict(self._live)

    def share(self, shares: Mapping[str, float]) -> None:
        """Divides the traffic anew; `refresh` loads what that needs."""
        self._shares = dict(shares)

    def refresh(self) -> bool:
        """Loads what the aliases point at now; whether anything changed. Never raises."""
        with self._lock:
            before = {alias: held.number for alias, held in self._live.items()}
            live: dict[str, Held] = {}
            for alias in self._shares:
                held = self._follow(alias)
                if held is not None:
                    live[alias] = held
            self._live = live
            self.trouble = {
                alias: why for alias, why in self.trouble.items() if alias in self._shares
            }
            return before != {alias: held.number for alias, held in live.items()}

    def _follow(self, alias: str) -> Held | None:
        current = self._live.get(alias)
        try:
            number = alias_target(self.storage, self.model, alias)
        except MissingError:
            self.trouble[alias] = f"{self.model} has no version {alias}"
            return None
        except ValueError as error:  # storage out of reach: what is loaded goes on answering
            self.trouble[alias] = str(error)
            return current
        if current is not None and current.number == number:
            self.trouble.pop(alias, None)
            self._failed.pop(alias, None)
            return current
        if self._failed.get(alias) == number:
            return current
        try:
            held = self._held(number) or self._load(number)
        except Exception as error:
            self._failed[alias] = number
            self.trouble[alias] = f"{self.model}@{number} does not load: {error}"
            log.exception("%s@%s does not load; %s stays as it was", self.model, number, alias)
            return current
        self.trouble.pop(alias, None)
        self._failed.pop(alias, None)
        log.info("%s@%s answers for %s", self.model, number, alias)
        return held

    def pick(self, key: str) -> Held:
        """The version for a client or session: the same for the same key, by the shares."""
        live = self._live
        total = sum(self._shares.get(alias, 0.0) for alias in live)
        if not live or total <= 0:
            why = "; ".join(self.trouble.values()) or "it is being loaded"
            raise ServiceError(
                503, "not_ready", f"{self.model} does not answer: {why}", {"Retry-After": "5"}
            )
        place = place_of(key) * total
        for alias, held in live.items():
            place -= self._shares[alias]
            if place < 0:
                return held
        return held

    def find(self, reference: str) -> Held:
        """The version of a number or alias, loaded if need be; 404 where there is none."""
        if reference in self._live:
            return self._live[reference]
        try:
            version = resolve(self.storage, f"{self.model}@{reference}")
        except BundleError as error:
            raise ServiceError(404, "version_not_found", str(error)) from None
        held = self._held(version.number)
        if held is None:
            with self._lock:
                held = self._held(version.number) or self._load(version.number)
                self._pinned[version.number] = held
                while len(self._pinned) > MOST_PINNED:
                    self._pinned.pop(next(iter(self._pinned)))
        return held

    def _held(self, number: int) -> Held | None:
        live = (held for held in self._live.values() if held.number == number)
        return next(live, None) or self._pinned.get(number)

    def _load(self, number: int) -> Held:
        version = resolve(self.storage, f"{self.model}@{number}")
        check_task(version, self._task)
        loaded = self._open(*self._task, fetch_bundle(self.storage, version))
        warm_up(loaded, TASKS[self._task])
        return Held(number, loaded, version.bundle)


def alias_target(storage: Storage, model: str, alias: str) -> int:
    """The number that an alias points at; MissingError where there is no such alias."""
    if alias == "latest":
        return resolve(storage, f"{model}@latest").number
    return int(storage.read_json(f"models/{model}/aliases/{alias}.json")["version"])


def check_task(version: Version, task: tuple[str, str]) -> None:
    """A version of another domain or task would answer in another shape."""
    own = version.bundle["domain"], version.bundle["task"]
    if own != task:
        raise BundleError(f"{version.name} is of {' '.join(own)}, not of {' '.join(task)}")


def warm_up(loaded: Loaded, task: Task) -> None:
    """The first answer pays for what is made lazily; a sample that does not suit is no failure."""
    if isinstance(loaded, Settles):
        loaded.settle()
    try:
        loaded.answer(task.sample())
    except ValueError:
        return


def place_of(key: str) -> float:
    """A key's place in [0, 1), the same in every process."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
