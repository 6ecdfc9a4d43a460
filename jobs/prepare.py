"""From a user's files to rows in storage: read, divided, encoded, packed, published.

The domain says how (`jobs.domains.Preparation`); here is in what order, on which machines and
where to. Inside a Ray job the pieces are encoded by Ray Data; elsewhere by the same function in
this process. The outcome depends on the files and the spec alone, byte for byte, and what has
been prepared once is never prepared again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.storage import Storage, publish_folder
from jobs.domains import Block, Preparation, open_preparation
from jobs.domains.files import DataError, Source
from jobs.inspections import inspect_all
from jobs.ordered import in_order
from jobs.rows import cache_folder
from jobs.shards import Shards

if TYPE_CHECKING:
    from cluster.spec import ModelSpec

FORMAT = 1
MANIFEST = "manifest.json"
REPORT_EVERY_S = 3.0
Report = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """Prepared data in storage."""

    digest: str
    path: str
    manifest: dict[str, Any]
    is_new: bool
    """Made now; False where it was there already."""


def prepare(
    model: ModelSpec,
    storage: Storage,
    report: Report = print,
    pretrained: Path | None = None,
) -> Prepared:
    """Prepares the data of a model, or finds it prepared.

    Raises ValueError (DataError, StorageError) with one message; nothing is published then.
    """
    preparation = open_preparation(model, pretrained, storage)
    sources = preparation.sources()
    inspections = inspect_all(preparation, sources, report)
    planned = preparation.plan(inspections)
    digest = data_digest(model, preparation, sources, inspections)
    path = f"data/{digest}"
    with _alone(digest):
        if storage.exists(f"{path}/{MANIFEST}"):
            report(f"data {digest[:12]} is prepared already")
            return Prepared(digest, path, storage.read_json(f"{path}/{MANIFEST}"), False)
        with tempfile.TemporaryDirectory(dir=_scratch(), prefix="prepare-") as folder:
            made = _make(preparation, Path(folder), report)
            content = (
                planned
                | made
                | {
                    "format": FORMAT,
                    "digest": digest,
                    "domain": model.domain,
                    "task": model.task,
                    "sources": _described(sources, inspections),
                    "versions": _versions(),
                }
            )
            if preparation.sources() != sources:
                raise DataError("data.source changed while it was read; run again")
            manifest = publish_folder(storage, Path(folder), path, MANIFEST, content)
    return Prepared(digest, path, manifest, True)


def data_digest(
    model: ModelSpec,
    preparation: Preparation,
    sources: Sequence[Source],
    inspections: Sequence[dict[str, Any]],
) -> str:
    """SHA-256 in hex of what decides the rows: the files' content and order, and the spec."""
    files = [
        {"sha256": found["sha256"], "part": source.part, "kind": source.suffix}
        for source, found in zip(sources, inspections, strict=True)
    ]
    content = {
        "format": FORMAT,
        "domain": model.domain,
        "task": model.task,
        "sources": files,
        "settings": preparation.settings(),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _make(preparation: Preparation, folder: Path, report: Report) -> dict[str, Any]:
    """Writes processor and shards into `folder`; returns what the manifest says of them."""
    preparation.fit(folder / "processor", report)
    shards = Shards(folder)
    blocks = in_order(preparation.encode, preparation.num_pieces)
    for split, rows in preparation.pack(_told(blocks, report)):
        shards.write(split, rows)
    shards.close()
    splits = preparation.counts()
    report(", ".join(f"{name} {counts['rows']:,} rows" for name, counts in splits.items()))
    return {
        "settings": preparation.settings(),
        "splits": splits,
        "columns": {name: str(kind) for name, kind in shards.columns.items()},
    }


def _described(
    sources: Sequence[Source], inspections: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    told = ("sha256", "form", "encoding")
    return [
        {"path": source.path, "part": source.part, "size": source.size}
        | {name: found[name] for name in told if name in found}
        for source, found in zip(sources, inspections, strict=True)
    ]


def _told(blocks: Iterator[Block], report: Report) -> Iterator[Block]:
    """The same blocks, with a line every few seconds."""
    told_s, num_bytes = time.monotonic(), 0
    for block in blocks:
        num_bytes += block.counts.get("bytes", 0)
        if time.monotonic() - told_s > REPORT_EVERY_S:
            told_s = time.monotonic()
            report(f"encoded {num_bytes / 1e6:,.0f} MB")
        yield block


def _versions() -> dict[str, str]:
    names = ("ray", "pyarrow", "tokenizers", "transformers")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _scratch() -> Path:
    folder = cache_folder() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _alone(digest: str) -> Iterator[None]:
    """One process of this machine at a time prepares the same data; others find it done."""
    path = _scratch() / f"{digest}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
