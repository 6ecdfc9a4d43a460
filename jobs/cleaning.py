"""What no alias and no lineage needs any more: found, shown, removed.

Kept are: each model's latest version; what aliases name, and what they named before (for
`rollback`); the versions these began from; the runs, data and uploads of all these; whatever is
younger than asked for; and whatever an attempt that is under way may read.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster.lease import TTL_S
from cluster.spec import ModelReference
from cluster.storage import Entry, MissingError, Storage, StorageError
from jobs.bundles import MANIFEST as BUNDLE
from jobs.bundles import Version, aliases, list_models, versions
from jobs.domains.files import UPLOADS
from jobs.progress import MANIFEST
from jobs.promotion import previous_holder
from jobs.rows import remove_rows
from jobs.runs import Run, list_runs

DAY_S = 86400.0
MANIFESTS = {"run": "run.json", "version": BUNDLE, "data": MANIFEST}
"""What makes each kind visible, in the order of removal: a run whose version is gone would count
as done."""


@dataclass(frozen=True)
class Removal:
    """Something that may go."""

    kind: str
    """version, run, sweep, data, upload or list (of uploads)."""
    name: str
    path: str
    size: int
    age_s: float
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        known = {"kind": self.kind, "name": self.name, "path": self.path, "bytes": self.size}
        return known | {"days": round(self.age_s / DAY_S, 1), "reason": self.reason}


def find_removals(storage: Storage, older_s: float) -> list[Removal]:
    """What may be removed, biggest first; changes nothing."""
    store = _Store(storage, older_s)
    found = [*store.versions(), *store.runs(), *store.sweeps(), *store.data(), *store.uploads()]
    return sorted(found, key=lambda removal: -removal.size)


def remove(storage: Storage, removals: list[Removal], older_s: float) -> list[Removal]:
    """Removes those that still may go, their manifests first; returns them.

    What somebody began to use since it was shown is left.
    """
    still = {removal.path for removal in find_removals(storage, older_s)}
    order = list(MANIFESTS)
    going = [removal for removal in removals if removal.path in still]
    going.sort(key=lambda r: order.index(r.kind) if r.kind in order else len(order))
    for removal in going:
        if removal.kind in MANIFESTS:
            storage.delete(f"{removal.path}/{MANIFESTS[removal.kind]}")
        if removal.kind == "list":
            storage.delete(removal.path)
        else:
            storage.delete_tree(removal.path)
        if removal.kind == "data":
            remove_rows(removal.name)
    return going


class _Store:
    """One look at everything that is stored."""

    def __init__(self, storage: Storage, older_s: float) -> None:
        self.storage, self.older_s, self.now = storage, older_s, time.time()
        self.folders: dict[str, list[Entry]] = defaultdict(list)
        for entry in storage.list():
            self.folders[_folder(entry.path)].append(entry)
        self.all = {v.name: v for model in list_models(storage) for v in versions(storage, model)}
        self.kept = self._kept()
        self.under_way = {run.id for run in list_runs(storage) if is_under_way(run)}

    def versions(self) -> Iterator[Removal]:
        """Versions that nobody needs, and what attempts left that never published."""
        for path in self._paths("models/"):
            model, number = path.split("/")[1:3]
            name = f"{model}@{number}"
            if name in self.all:
                reason = "no alias and no lineage needs it"
                going = name not in self.kept
            else:
                going, reason = not self._is_claimed(path), "was never published"
            if going and self._is_old(path):
                yield self._removal("version", name, path, reason)

    def runs(self) -> Iterator[Removal]:
        """Runs of versions that go, and those that ended without one."""
        for path in self._paths("runs/"):
            run = path.split("/")[1]
            stays = run in self.needed_runs | self.under_way or self._made_what_stays(run)
            # The trials of a sweep that is under way are runs of its model.
            stays = stays or any(run.startswith(f"{model}-train-") for model in self.searching)
            if not stays and self._is_old(path):
                made = [v.name for v in self.all.values() if v.bundle.get("run") == run]
                reason = f"its version {made[0]} goes" if made else "no version needs it"
                yield self._removal("run", run, path, reason)

    def sweeps(self) -> Iterator[Removal]:
        """What sweeps left whose run goes, or went."""
        going = {removal.name for removal in self.runs()}
        for path in self._paths("sweeps/"):
            run = path.split("/")[1]
            if (run in going or f"runs/{run}" not in self.folders) and self._is_old(path):
                yield self._removal("sweep", run, path, "no version that stays came from it")

    def _made_what_stays(self, name: str) -> bool:
        """Whether a preparation or sweep is the record of data or a version that stays."""
        run = Run(self.storage, name)
        result = run.result() or {}
        if "version" in result and self.storage.exists(f"{run.path}/run.json"):
            info = run.info()
            if info["stage"] != "evaluate" and f"{info['model']}@{result['version']}" in self.kept:
                return True
        return bool(_read_by(run) & self.needed_data)

    def data(self) -> Iterator[Removal]:
        """Prepared data that no version, no run and nothing under way reads."""
        for path in self._paths("data/"):
            digest = path.split("/")[1]
            if digest not in self.needed_data and not self.is_unclear and self._is_old(path):
                yield self._removal("data", digest, path, "no version that stays was trained on it")

    def uploads(self) -> Iterator[Removal]:
        """Uploaded sources of data that goes, and lists of such."""
        for path in self._paths(f"{UPLOADS}/"):
            is_list = path.startswith(f"{UPLOADS}/lists/")
            digests = self._listed(path) if is_list else {path.split("/")[1]}
            if not digests & self.needed_uploads and not self.is_unclear and self._is_old(path):
                name = Path(path if is_list else self.folders[path][0].path).name
                kind = "list" if is_list else "upload"
                yield self._removal(kind, name, path, "no data that stays was read from it")

    def _kept(self) -> set[str]:
        """Names of the versions that stay, with all that they began from."""
        wanted: list[str] = []
        for model in {version.model for version in self.all.values()}:
            wanted.append(f"{model}@{max(v.number for v in self.all.values() if v.model == model)}")
            for alias in aliases(self.storage, model).values():
                # The holder, the one that it left, and whoever a rollback would go back to.
                numbers = [move["version"] for move in alias.history[-2:]]
                numbers += [alias.number, previous_holder(alias)]
                wanted += [f"{model}@{number}" for number in numbers]
        for version in self.all.values():
            run = f"runs/{version.bundle.get('run')}"
            if not self._is_old(version.path) or (run in self.folders and not self._is_old(run)):
                wanted.append(version.name)
        wanted += self._started_from_by_runs()
        kept: set[str] = set()
        while wanted:
            name = wanted.pop()
            if name in self.all and name not in kept:
                kept.add(name)
                wanted += _parents(self.all[name])
        return kept

    def _started_from_by_runs(self) -> list[str]:
        """Versions that young and live runs begin from, which have published none yet."""
        found = []
        for run in list_runs(self.storage):
            if not self._is_old(run.path) or is_under_way(run):
                found += re.findall(r"\bpretrained: ['\"]?([a-z][a-z0-9-]*@\d+)", self._spec(run))
        return found

    def _spec(self, run: Run) -> str:
        try:
            return self.storage.read(f"{run.path}/spec.yaml").decode("utf-8", "replace")
        except MissingError:
            return ""

    def _is_claimed(self, path: str) -> bool:
        """Whether an attempt that is under way may still publish there."""
        try:
            claim = str(self.storage.read_json(f"{path}/claim.json")["run"])
        except (MissingError, KeyError):
            return False
        return claim.partition("/")[0] in self.under_way

    @cached_property
    def needed_runs(self) -> set[str]:
        return {str(self.all[name].bundle.get("run")) for name in self.kept}

    @cached_property
    def needed_data(self) -> set[str]:
        """Digests that versions which stay, young runs and those under way were made from."""
        needed = {str(self.all[name].bundle.get("data")) for name in self.kept}
        for run in list_runs(self.storage):
            if run.id in self.under_way or not self._is_old(run.path):
                needed |= _read_by(run)
        return needed

    @cached_property
    def searching(self) -> set[str]:
        """Models with a sweep under way."""
        infos = (Run(self.storage, name).info() for name in self.under_way)
        return {str(info["model"]) for info in infos if info["stage"] == "tune"}

    @cached_property
    def is_unclear(self) -> bool:
        """Whether a run that has begun has not said yet what it reads."""
        fresh = {
            e.path.split("/")[1] for e in self._entries("runs/") if self.now - e.modified < DAY_S
        }
        runs = (Run(self.storage, name) for name in fresh | self.under_way)
        return any(not _read_by(run) and run.result() is None and run.end() is None for run in runs)

    @cached_property
    def needed_uploads(self) -> set[str]:
        """Digests of the files that data which stays was made from."""
        needed: set[str] = set()
        for path in self._paths("data/"):
            if path.split("/")[1] in self.needed_data or not self._is_old(path):
                try:
                    manifest = self.storage.read_json(f"{path}/{MANIFEST}")
                except MissingError:
                    continue
                needed |= {str(source["sha256"]) for source in manifest["sources"]}
        return needed

    def _listed(self, path: str) -> set[str]:
        """Digests of the uploads that a list names."""
        try:
            files = self.storage.read_json(path)["files"]
            return {str(file["path"]).split("/")[1] for file in files}
        except (StorageError, KeyError, IndexError, TypeError):
            return set()

    def _entries(self, start: str) -> Iterator[Entry]:
        for path in self._paths(start):
            yield from self.folders[path]

    def _paths(self, start: str) -> list[str]:
        return [path for path in self.folders if path.startswith(start)]

    def _is_old(self, path: str) -> bool:
        return self._age_s(path) > self.older_s

    def _age_s(self, path: str) -> float:
        """Seconds since anything below was last written."""
        return self.now - max((e.modified for e in self.folders.get(path, ())), default=self.now)

    def _removal(self, kind: str, name: str, path: str, reason: str) -> Removal:
        size = sum(entry.size for entry in self.folders[path])
        return Removal(kind, name, path, size, self._age_s(path), reason)


def is_under_way(run: Run) -> bool:
    """Whether somebody holds the run's lease."""
    path = f"{run.path}/lease.json"
    try:
        lease = json.loads(run.storage.read(path))
        return not lease["released"] and run.storage.age(path) < 2 * TTL_S
    except (MissingError, ValueError, KeyError, TypeError):
        return False


def _read_by(run: Run) -> set[str]:
    """Digests of the data that a run is known to have read or made."""
    known = [attempt.info.get("data") for attempt in run.attempts()]
    return {str(digest) for digest in (*known, (run.result() or {}).get("data")) if digest}


def _folder(path: str) -> str:
    """The folder that a file goes with: a version, a run, a sweep, data, an upload; or itself."""
    parts = path.split("/")
    if parts[:2] == [UPLOADS, "lists"]:
        return path
    if parts[0] == "models":
        return "/".join(parts[:3]) if len(parts) > 3 and parts[2].isdigit() else ""
    return "/".join(parts[:2]) if parts[0] in ("runs", "data", "sweeps", UPLOADS) else ""


def _parents(version: Version) -> list[str]:
    start = ((version.bundle.get("spec") or {}).get("network") or {}).get("pretrained")
    try:
        return [str(ModelReference.parse(start))] if start else []
    except ValueError:
        return []
