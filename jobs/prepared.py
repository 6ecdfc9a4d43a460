"""Prepared data as workers read it: its manifest, its processor, its splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.storage import Storage
from jobs.rows import Rows, cache_folder, open_rows

HELD_BACK = ("test", "validation")


def held_back_split(manifest: dict[str, Any]) -> str | None:
    """The split that a version is judged on: test, else validation, else none."""
    rows = {name: counts["rows"] for name, counts in manifest["splits"].items()}
    return next((split for split in HELD_BACK if rows.get(split)), None)


def prepared_rows(storage: Storage, digest: str) -> int | None:
    """Training rows of prepared data; None before it is prepared."""
    path = f"data/{digest}/manifest.json"
    if not storage.exists(path):
        return None
    return int(storage.read_json(path)["splits"]["train"]["rows"])


class PreparedData:
    """One digest of prepared data in storage."""

    def __init__(self, storage: Storage, digest: str) -> None:
        """Raises MissingError where no such data has been published."""
        self.storage, self.digest = storage, digest
        self.manifest: dict[str, Any] = storage.read_json(f"data/{digest}/manifest.json")

    def rows(self, split: str) -> Rows | None:
        """Open a split's rows on this node; None where the split holds none."""
        counts = self.manifest["splits"].get(split, {})
        return open_rows(self.storage, self.digest, split) if counts.get("rows") else None

    def processor(self) -> Path:
        """Return a local folder with the processor's files (tokenizer, vocabulary, labels)."""
        path = f"data/{self.digest}/processor"
        local = self.storage.local_path(path)
        if local is not None:
            return local
        folder = cache_folder() / "processors" / self.digest
        for entry in self.storage.list(path):
            file = folder / Path(entry.path).name
            if not file.exists():
                self.storage.download(entry.path, file)
        return folder
