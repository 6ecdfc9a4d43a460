"""Whether what is stored still is what was written: each file against its recorded digest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from cluster.storage import MissingError, Storage, checked, sha256_file
from jobs.bundles import BundleError, Version


def changed_files(storage: Storage, folder: str, files: Mapping[str, str]) -> list[str]:
    """A line for each of `files` ({name: sha256}) of a stored folder that is gone or has changed.

    Reads every file in full.
    """
    found = []
    for name, digest in files.items():
        state = _digest(storage, f"{folder}/{checked(name)}")
        if state is None:
            found.append(f"{name} is gone")
        elif state != digest:
            found.append(f"{name} has changed (sha256 {state[:12]}, recorded {digest[:12]})")
    return found


def check_version(storage: Storage, version: Version) -> None:
    """BundleError where a file of the version is not what was published."""
    changed = changed_files(storage, version.path, version.bundle["files"])
    if changed:
        place = storage.url(version.path)
        raise BundleError(
            f"{version.name}: {'; '.join(changed)} since it was published; restore it in {place} "
            "or train it again: it is not put to use like this"
        )


def _digest(storage: Storage, path: str) -> str | None:
    local = storage.local_path(path)
    if local is not None:
        return sha256_file(local) if local.is_file() else None
    with tempfile.TemporaryDirectory(prefix="slipway-verify-") as scratch:
        try:
            return storage.download(path, Path(scratch, "file"))
        except MissingError:
            return None
