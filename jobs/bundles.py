"""The registry: versions of models, their evaluations and aliases, by conditional puts alone.

`models/<model>/<n>/` holds claim.json (whose number it is), the bundle's files, bundle.json
(written last: a version exists once it is there) and `evaluations/`.
`models/<model>/aliases/<alias>.json` holds where an alias points and all its moves.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import Any

from cluster.storage import (
    MissingError,
    Storage,
    checked,
    encode_json,
    sha256_file,
    upload_folder,
)
from jobs.runs import stage_digest

MANIFEST = "bundle.json"
LATEST = "latest"
ALIAS = re.compile(r"[a-z][a-z0-9-]*")


class BundleError(ValueError):
    """A model, version or alias that is not there, or a bundle that is not what was published."""

    exit_code = 2


class AliasMovedError(BundleError):
    """An alias that no longer points where the caller saw it."""


@dataclass(frozen=True)
class Version:
    """A published version of a model."""

    model: str
    number: int
    bundle: dict[str, Any]
    """bundle.json: {"format", "domain", "task", "files": {name: sha256}, "run", "data", ...}"""
    aliases: tuple[str, ...] = ()
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By the name they were recorded under, such as the data's digest."""

    @property
    def name(self) -> str:
        return f"{self.model}@{self.number}"

    @property
    def path(self) -> str:
        return f"models/{self.model}/{self.number}"

    @property
    def held_back(self) -> dict[str, Any] | None:
        """The evaluation on held-back data, on the test split where there is one."""
        own = self.bundle.get("data")
        found = {e.get("split"): e for e in self.evaluations.values() if e.get("data", own) == own}
        return found.get("test") or found.get("validation")

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the names and digests of all files."""
        return stage_digest(self.bundle["files"])


@dataclass(frozen=True)
class Alias:
    """A movable name for a version: where it points, and its moves, oldest first."""

    name: str
    number: int
    history: tuple[dict[str, Any], ...]
    """{"version", "from", "who", "why", "time", ...}"""


def claim_version(storage: Storage, model: str, run_id: str) -> int:
    """A version number for this run, the same one whenever it asks; never one of another run."""
    claims = _claims(storage, model)
    for number, run in claims.items():
        if run == run_id:
            return number
    number = max(claims, default=0) + 1
    content = encode_json({"run": run_id, "time": time.time(), "token": uuid.uuid4().hex})
    while not storage.create(f"models/{model}/{number}/claim.json", content):
        if storage.read_json(f"models/{model}/{number}/claim.json")["run"] == run_id:
            return number
        number += 1
    return number


def publish_version(
    storage: Storage, model: str, number: int, folder: Path, bundle: Mapping[str, Any]
) -> Version:
    """Uploads the files of `folder` and publishes them by bundle.json, which is written last.

    Publishing again for the same run changes nothing; for another run it is a BundleError.
    """
    path = f"models/{model}/{number}"
    if not storage.exists(f"{path}/{MANIFEST}"):
        files = {
            name: file["sha256"] for name, file in upload_folder(storage, folder, path).items()
        }
        files.pop(MANIFEST, None)
        storage.create(f"{path}/{MANIFEST}", encode_json({**bundle, "files": files}))
    published = storage.read_json(f"{path}/{MANIFEST}")
    if published.get("run") != bundle.get("run"):
        raise BundleError(f"{model}@{number} belongs to {published.get('run')}; claim a new number")
    return Version(model, number, published)


def list_models(storage: Storage) -> list[str]:
    """Names of the models that have a published version."""
    return [model for model in storage.folders("models") if _published(storage, model)]


def versions(storage: Storage, model: str) -> list[Version]:
    """All published versions by number; empty where there is none."""
    named = _names(storage, model)
    return [_version(storage, model, number, named) for number in _published(storage, model)]


def resolve(storage: Storage, reference: str) -> Version:
    """The version that MODEL, MODEL@3, MODEL@ALIAS or MODEL@latest names.

    Raises BundleError, which names what there is.
    """
    model, at, wanted = reference.partition("@")
    wanted = wanted if at else LATEST
    numbers = _published(storage, model) if _is_name(model) else []
    if not numbers:
        known = ", ".join(list_models(storage)) or "none yet: slipway run trains one"
        raise BundleError(f"there is no version of a model {model!r}; models: {known}")
    named = _names(storage, model)
    by_name = {LATEST: numbers[-1], **named, **{str(n): n for n in numbers}}
    if wanted not in by_name:
        known = ", ".join(by_name)
        raise BundleError(f"{model} has no version {wanted!r}; write {model}@ and one of: {known}")
    if by_name[wanted] not in numbers:
        raise BundleError(
            f"{reference} points at version {by_name[wanted]}, which is gone; move the alias"
        )
    return _version(storage, model, by_name[wanted], named)


def record_evaluation(
    storage: Storage, version: Version, name: str, evaluation: Mapping[str, Any]
) -> None:
    """Writes an evaluation beside the version, one file a name (the data's digest)."""
    storage.write_json(f"{version.path}/evaluations/{name}.json", evaluation)


def set_alias(
    storage: Storage,
    model: str,
    alias: str,
    number: int,
    who: str,
    why: str,
    compared: Mapping[str, Any] | None = None,
    holder: int | EllipsisType | None = ...,
) -> Alias:
    """Moves the alias in one conditional put, with its history; racing moves all stay in it.

    Given a `holder` (None: nobody), AliasMovedError where another version has it by now.
    """
    if not ALIAS.fullmatch(alias) or alias == LATEST:
        raise BundleError(f"{alias!r} cannot be an alias; use a-z, 0-9 and -, and not {LATEST!r}")
    resolve(storage, f"{model}@{number}")
    path = f"models/{model}/aliases/{alias}.json"
    while True:
        try:
            data, tag = storage.read_tagged(path)
            history = list(storage.parse_json(path, data)["history"])
        except MissingError:
            tag, history = "", []
        move = {"version": number, "who": who, "why": why, "time": time.time()}
        move["from"] = history[-1]["version"] if history else None
        if holder is not ... and move["from"] != holder:
            raise AliasMovedError(f"{model}@{alias} has moved to {move['from']} meanwhile")
        move["token"] = uuid.uuid4().hex
        history.append({**move, "compared": dict(compared or {})})
        content = encode_json({"version": number, "history": history})
        if storage.swap(path, content, tag) if tag else storage.create(path, content):
            return Alias(alias, number, tuple(history))


def aliases(storage: Storage, model: str) -> dict[str, Alias]:
    """All aliases of a model with their histories."""
    found = {}
    for entry in storage.list(f"models/{model}/aliases"):
        name = Path(entry.path).stem
        content = storage.read_json(entry.path)
        found[name] = Alias(name, content["version"], tuple(content["history"]))
    return found


def fetch_bundle(storage: Storage, version: Version, cache: Path | None = None) -> Path:
    """A local folder with the version's files, each verified against its digest.

    With local storage that is the folder itself. From elsewhere the files are kept below `cache`
    ($SLIPWAY_CACHE or ~/.cache/slipway). Raises BundleError where a file is gone or has changed.
    """
    local = storage.local_path(version.path)
    if local is None:
        local = (cache or _cache()) / "bundles" / f"{version.model}-{version.digest[:16]}"
        if not local.is_dir():
            _download(storage, version, local)
    _verify(version, local)
    return local


def _verify(version: Version, local: Path) -> None:
    for name, digest in version.bundle["files"].items():
        file = local / checked(name)
        if not file.is_file() or sha256_file(file) != digest:
            state = "has changed since it was published" if file.is_file() else "is gone"
            raise BundleError(f"{version.name}: {name} {state}; restore it in {version.path}")


def _download(storage: Storage, version: Version, local: Path) -> None:
    """Into a folder beside it, then moved: other processes see all files or none."""
    partial = local.with_name(f".{local.name}.{uuid.uuid4().hex}")
    try:
        for name in [*version.bundle["files"], MANIFEST]:
            storage.download(f"{version.path}/{checked(name)}", partial / name)
        _verify(version, partial)  # a bad download must not stay in the cache
        try:
            partial.rename(local)
        except OSError:
            if not local.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cache() -> Path:
    given = os.environ.get("SLIPWAY_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "slipway"


def _numbers(storage: Storage, model: str) -> list[int]:
    return sorted(int(name) for name in storage.folders(f"models/{model}") if name.isdigit())


def _published(storage: Storage, model: str) -> list[int]:
    path = f"models/{model}"
    return [n for n in _numbers(storage, model) if storage.exists(f"{path}/{n}/{MANIFEST}")]


def _claims(storage: Storage, model: str) -> dict[int, str]:
    claims = {}
    for number in _numbers(storage, model):
        try:
            claims[number] = str(storage.read_json(f"models/{model}/{number}/claim.json")["run"])
        except MissingError:
            claims[number] = ""
    return claims


def _names(storage: Storage, model: str) -> dict[str, int]:
    return {name: alias.number for name, alias in sorted(aliases(storage, model).items())}


def _version(storage: Storage, model: str, number: int, named: Mapping[str, int]) -> Version:
    path = f"models/{model}/{number}"
    evaluations = {
        Path(entry.path).stem: storage.read_json(entry.path)
        for entry in storage.list(f"{path}/evaluations")
        if entry.path.endswith(".json")
    }
    held = tuple(name for name, target in named.items() if target == number)
    return Version(model, number, storage.read_json(f"{path}/{MANIFEST}"), held, evaluations)


def _is_name(model: str) -> bool:
    return re.fullmatch(r"[\w][\w.-]*", model) is not None
