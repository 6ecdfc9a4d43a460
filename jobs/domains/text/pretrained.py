"""Networks that exist: where they lie, their context and their tokenizer. Needs no torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from jobs.domains.files import DataError
from jobs.domains.text.vocabulary import Vocabulary

MAX_CONTEXT = 1024
"""The context where the spec names none; networks that see more cost memory to train."""

OFFSET_TYPES = ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet")
"""Networks whose first position comes after the padding's number."""

END_MARKS = ("<|endoftext|>", "</s>", "<eos>", "[SEP]")
"""What ends a document in a tokenizer that does not say so itself."""


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
    config = config_of(source_of(network, folder) or "")
    longest = config.get("max_position_embeddings") or config.get("n_positions") or MAX_CONTEXT
    if config.get("model_type") in OFFSET_TYPES:
        longest -= int(config.get("pad_token_id") or 0) + 1
    return min(int(longest), MAX_CONTEXT)


def config_of(source: str) -> dict[str, Any]:
    """config.json of a folder or hub name; ValueError where there is none."""
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


def keep_context(folder: Path, context: int) -> None:
    """Write into a tokenizer's folder where texts are cut, so that answers cut them there too."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8")) | {"model_max_length": context}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def kept_context(folder: Path) -> int:
    """What `keep_context` wrote."""
    return int(
        json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["model_max_length"]
    )


def tokenizer_digest(source: str) -> str:
    """SHA-256 of a local folder's tokenizer; of the name alone for a hub's."""
    file = Path(source) if Path(source).is_file() else Path(source, "tokenizer.json")
    return hashlib.sha256(file.read_bytes() if file.exists() else source.encode()).hexdigest()


def copy_tokenizer(source: str, folder: Path) -> Vocabulary:
    """The fast tokenizer of a transformers folder or hub name, written to `folder`."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # slow to import

    try:
        if Path(source).is_file():
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=source)
        else:
            tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # tokenizers raises bare Exception for a file it cannot read
        raise DataError(f"{source}: holds no tokenizer: {str(error).splitlines()[0]}") from error
    if not tokenizer.is_fast:
        raise DataError(f"{source}: has no tokenizer.json; save the tokenizer with one")
    if tokenizer.eos_token is None:
        known = tokenizer.get_vocab()
        tokenizer.eos_token = next((mark for mark in END_MARKS if mark in known), None)
    if tokenizer.eos_token is None:
        marks = ", ".join(END_MARKS)
        raise DataError(f"{source}: has no end-of-text token, and none of {marks}; add one")
    tokenizer.save_pretrained(folder)
    return Vocabulary(folder)
