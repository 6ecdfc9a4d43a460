"""Networks for pictures that exist: where they lie and what pictures they saw. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs.domains.vision.pictures import FILE, PREPROCESSOR, Pictures, pictures_of


def source_of(network: Any, folder: Path | None) -> str | None:
    """The resolved folder of a version, a folder, or a hub's name; None to start from nothing."""
    name = getattr(network, "pretrained", None)
    if name is None:
        return None
    return str(folder) if folder is not None else str(name).removeprefix("hf://")


def known_pictures(source: str) -> Pictures:
    """What the network saw; ValueError where there is no network.

    A folder of a version of ours says so itself, others in their image processor's file.
    """
    if Path(source, FILE).is_file():
        return Pictures.load(Path(source))
    return pictures_of(_content(source, PREPROCESSOR) or {}, _content(source, "config.json") or {})


def _content(source: str, name: str) -> dict[str, Any] | None:
    """A JSON file of a folder or of a hub's repository; None where it has none."""
    path = Path(source, name)
    if not Path(source).is_dir():
        from transformers.utils import cached_file  # slow to import, and only for a hub's names

        try:
            found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        except OSError as error:
            raise ValueError(f"network.pretrained {source}: {error}") from error
        if found is None:
            return None
        path = Path(found)
    elif not path.is_file():
        if name == "config.json":
            raise ValueError(f"network.pretrained {source}: holds no config.json")
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"network.pretrained {source}: {name}: {error}") from error
    return content
