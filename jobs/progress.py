"""What a run has reached, over all its attempts: joined metrics and the checkpoints that count."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.parts import read_joined
from cluster.storage import DamagedError, MissingError

if TYPE_CHECKING:
    from jobs.runs import Run

FORMAT = 2
"""Of checkpoints: fragments in safetensors, and a manifest with a seal."""
STEP = re.compile(r"step-(\d+)")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint that the chain of attempts admits."""

    attempt: int
    step: int
    path: str
    """The folder inside the storage."""
    manifest: dict[str, Any]
    """{"step", "files": {name: {"sha256", "size"}}, "metric", "world_size", "zero_stage", ...}"""


def admitted(run: Run) -> list[tuple[int, float]]:
    """(attempt, last step that counts), oldest first; the latest attempt has no last step."""
    resumes = {attempt.number: attempt.info.get("resumes") for attempt in run.attempts()}
    chain: list[tuple[int, float]] = []
    number, limit = max(resumes, default=0), math.inf
    while number in resumes:
        chain.append((number, limit))
        origin = resumes.pop(number)
        if not origin:
            break
        number, limit = origin["attempt"], min(limit, origin["step"])
    return chain[::-1]


def joined_metrics(run: Run) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that count, one a step, in the order of steps."""
    lines: dict[int, dict[str, Any]] = {}
    for number, limit in admitted(run):
        for line in parse_lines(read_joined(run.storage, f"{run.path}/{number}/metrics.jsonl")):
            if line["step"] <= limit:
                lines[line["step"]] = line
    return [lines[step] for step in sorted(lines)]


def publish_metrics(run: Run) -> str | None:
    """Writes the joined lines to runs/<run>/metrics.jsonl, whole; its URL, None without a line.

    The driver calls it when its hold on the run ends, well or badly; until then the verbs do, each
    time before they print the path. So whoever is told the path finds there what was true then.
    """
    lines = joined_metrics(run)
    if not lines:
        return None
    path = f"{run.path}/metrics.jsonl"
    run.storage.write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return run.storage.url(path)


def parse_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects with a step; a line that a killed writer left half-written is skipped."""
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int):
            found.append(value)
    return found


def checkpoints(run: Run) -> list[Checkpoint]:
    """All that count, by step; whether their files are intact is for the loader to verify."""
    found = (_read(run, *place) for place in _places(run))
    return [checkpoint for checkpoint in found if checkpoint is not None]


def latest_checkpoint(run: Run) -> Checkpoint | None:
    """The one with the highest step that counts, to resume from."""
    for place in reversed(_places(run)):
        checkpoint = _read(run, *place)
        if checkpoint is not None:
            return checkpoint
    return None


def _places(run: Run) -> list[tuple[int, int, str]]:
    """(step, attempt, path) of all admitted folders, published or not, by step."""
    places = []
    for number, limit in admitted(run):
        folder = f"{run.path}/{number}/checkpoints"
        for name in run.storage.folders(folder):
            match = STEP.fullmatch(name)
            if match and int(match[1]) <= limit:
                places.append((int(match[1]), number, f"{folder}/{name}"))
    return sorted(places)


def damaged_manifests(run: Run) -> list[str]:
    """Paths of the manifests that are there, but are not what was written."""
    paths = [f"{path}/{MANIFEST}" for _, _, path in _places(run)]
    return [path for path in paths if run.storage.exists(path) and _manifest(run, path) is None]


def unpublished(run: Run, before: int) -> list[str]:
    """Folders of checkpoints that attempts before this one began to save, and never published."""
    found = []
    for attempt in run.attempts():
        folder = f"{attempt.path}/checkpoints"
        names = run.storage.folders(folder) if attempt.number < before else []
        paths = [f"{folder}/{name}" for name in names if STEP.fullmatch(name)]
        found += [path for path in paths if not run.storage.exists(f"{path}/{MANIFEST}")]
    return found


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with a digest of its own: a flipped bit may leave valid JSON."""
    return {**manifest, "seal": _seal(manifest)}


def _seal(manifest: dict[str, Any]) -> str:
    content = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _manifest(run: Run, path: str) -> dict[str, Any] | None:
    """None where it is not there (yet, or any more) or is damaged."""
    try:
        manifest = run.storage.read_json(path)
        whole = manifest.get("format") != FORMAT or manifest["seal"] == _seal(manifest)
    except (MissingError, DamagedError, KeyError, AttributeError):
        return None
    return dict(manifest) if whole else None


def _read(run: Run, step: int, attempt: int, path: str) -> Checkpoint | None:
    manifest = _manifest(run, f"{path}/{MANIFEST}")
    return None if manifest is None else Checkpoint(attempt, step, path, manifest)
