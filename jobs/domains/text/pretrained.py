"""Networks that exist: where they lie, their context and their tokenizer. Needs no torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from jobs.domains.text.vocabulary import Vocabulary

MAX_CONTEXT = 1024
"""The context where the spec names none; networks that see more cost memory to train."""


def source_of(network: Any, folder: Path | None) -> str | None:
    """What transformers loads: the resolved folder of a version, a folder, or a hub name.

    None where the network of the spec starts from nothing.
    """
    name = getattr(network, "pretrained", None)
    if name is None:
        return None
    return str(folder) if folder is not None else str(name).removeprefix("hf://")


def context_of(network: Any, folder: Path | None = None) -> int:
    """Tokens that the network of a spec sees at once."""
    if network.context is not None:
        return int(network.context)
    config = _config(source_of(network, folder) or "")
    longest = config.get("max_position_embeddings") or config.get("n_positions") or MAX_CONTEXT
    return min(int(longest), MAX_CONTEXT)


def tokenizer_digest(source: str) -> str:
    """SHA-256 of a local folder's tokenizer; of the name alone for a hub's."""
    file = Path(source, "tokenizer.json")
    return hashlib.sha256(file.read_bytes() if file.exists() else source.encode()).hexdigest()


def copy_tokenizer(source: str, folder: Path) -> Vocabulary:
    """The fast tokenizer of a transformers folder or hub name, written to `folder`."""
    from transformers import AutoTokenizer  # slow to import, and needed here only

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ValueError(f"network.pretrained {source}: has no tokenizer: {error}") from error
    if not tokenizer.is_fast:
        raise ValueError(f"network.pretrained {source}: has no tokenizer.json; save it with one")
    tokenizer.save_pretrained(folder)
    return Vocabulary(folder)


def _config(source: str) -> dict[str, Any]:
    folder = Path(source)
    if folder.is_dir():
        try:
            content: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"network.pretrained {source}: config.json: {error}") from error
        return content
    from transformers import AutoConfig  # only for names of a hub

    try:
        return dict(AutoConfig.from_pretrained(source).to_dict())
    except OSError as error:
        raise ValueError(f"network.pretrained {source}: {error}") from error
