"""Which code this is: recorded with every run and version, never a reason to train again."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("cluster", "jobs", "tune", "serve")
ROOT = Path(__file__).resolve().parent.parent


@cache
def code_revision() -> dict[str, str]:
    """Return the package's version and one sha256 over its source files."""
    digest = hashlib.sha256()
    for file in sorted(source_files()):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    try:
        version = metadata.version("slipway")
    except metadata.PackageNotFoundError:  # a bare checkout, as uploaded to a cluster
        version = "checkout"
    return {"version": version, "digest": digest.hexdigest()}


def source_files() -> list[Path]:
    """Return every source file of ours that a cluster needs."""
    files = [ROOT / "slipway.py"] if (ROOT / "slipway.py").is_file() else []
    for package in PACKAGES:
        folder = ROOT / package
        files += [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return files
