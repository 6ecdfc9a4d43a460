"""What a job takes to the cluster: the spec and this package's source, at their digest.

Never the user's folder: it may hold secrets, and gigabytes.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .code import ROOT, source_files
from .home import explained, state_folder

if TYPE_CHECKING:
    from .spec import Spec

SPEC_FILE = "spec.yaml"


def stage(spec: Spec) -> Path:
    """A folder with our source files and the merged spec, named by the digest of its content.

    Made once: a folder that exists is returned as it is.
    """
    files = {file.relative_to(ROOT).as_posix(): file.read_bytes() for file in source_files()}
    return stage_files(files | {SPEC_FILE: spec.dump().encode()}, state_folder() / "staging")


def stage_files(files: Mapping[str, bytes], parent: Path) -> Path:
    """A folder in `parent` that holds exactly `files` (relative path -> content).

    Raises:
        ClusterError: it cannot be written.
    """
    folder = parent / content_digest(files)[:16]
    if folder.is_dir():
        return folder
    with explained(f"cannot write to {parent}", "free some space, or set XDG_STATE_HOME"):
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = Path(tempfile.mkdtemp(dir=parent, prefix="draft-"))
        try:
            _fill(draft, files)
            if not folder.is_dir():
                draft.rename(folder)
        except OSError:
            if not folder.is_dir():  # another command may have made the same folder meanwhile
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def content_digest(files: Mapping[str, bytes]) -> str:
    """sha256 over names and contents, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
