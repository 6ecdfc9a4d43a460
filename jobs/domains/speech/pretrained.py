"""Recognisers that exist: where they lie, what they hear, which characters they write.

Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.domains.speech.characters import Characters

PREPROCESSOR, VOCABULARY = "preprocessor_config.json", "vocab.json"
FILES = (PREPROCESSOR, VOCABULARY, "tokenizer_config.json", "special_tokens_map.json",
         "tokenizer.json", "merges.txt", "normalizer.json", "added_tokens.json")  # fmt: skip
SPACES = {"|": " "}
"""What stands between words in the vocabularies of wav2vec 2.0."""
CTC_TYPES = ("wav2vec2", "wav2vec2-conformer", "hubert", "wavlm", "data2vec-audio", "unispeech",
             "unispeech-sat", "sew", "sew-d")  # fmt: skip
"""Networks that hear samples and write characters by CTC."""
WHISPER = "whisper"
"""Networks that hear half a minute and write tokens."""
EXTRACTOR, HALF_MINUTE_S = "WhisperFeatureExtractor", 30.0


@dataclass(frozen=True)
class Known:
    """What a network's folder says of its input and output."""

    source: Path
    rate: int
    is_normalised: bool
    """Whether it hears samples of mean 0 and deviation 1."""
    characters: Characters | None
    """None where it has no head of its own yet."""
    digest: str
    """SHA-256 of the files that say so."""
    longest_s: float | None = None
    """The longest recording that it can hear; None: any."""


def source_of(network: Any, folder: Path | None) -> str | None:
    """The resolved folder of a version, a folder, or a hub's name; None to start from nothing."""
    name = getattr(network, "pretrained", None)
    if name is None:
        return None
    return str(folder) if folder is not None else str(name).removeprefix("hf://")


def known_processor(source: str) -> Known:
    """ValueError where there is no network, or one of another kind."""
    folder, config = folder_of(source), config_of(source)
    kind = config.get("model_type")
    if kind not in (*CTC_TYPES, WHISPER):
        raise ValueError(
            f"network.pretrained {source}: {kind} is not available for speech recognition in this "
            f"version; available: {', '.join((*CTC_TYPES, WHISPER))}"
        )
    heard = _content(folder, PREPROCESSOR) or {}
    present = [folder / name for name in FILES if (folder / name).is_file()]
    content = b"".join(path.read_bytes() for path in present)
    return Known(
        folder,
        int(heard.get("sampling_rate", 16_000)),
        bool(heard.get("do_normalize", True)),
        None if kind == WHISPER else _characters(_content(folder, VOCABULARY), config),
        hashlib.sha256(content).hexdigest(),
        float(heard.get("chunk_length", HALF_MINUTE_S)) if kind == WHISPER else None,
    )


def config_of(source: str) -> dict[str, Any]:
    """config.json of a folder or a hub's name; ValueError where there is none."""
    config = _content(folder_of(source), "config.json")
    if config is None:
        raise ValueError(f"network.pretrained {source}: holds no config.json")
    return config


def folder_of(source: str) -> Path:
    return Path(source) if Path(source).is_dir() else _fetched(source)


def copy_processor(known: Known, folder: Path, learned: Characters) -> Characters:
    """The network's own files and characters into `folder`; `learned` where it has none."""
    for name in FILES:
        if (known.source / name).is_file():
            shutil.copyfile(known.source / name, folder / name)
    characters = known.characters or learned
    characters.save(folder)
    return characters


def is_normalised(folder: Path) -> bool:
    """What the processor's folder says; see `Known`."""
    return bool((_content(folder, PREPROCESSOR) or {}).get("do_normalize", True))


def is_whisper(folder: Path) -> bool:
    """Whether a processor's folder is that of a Whisper."""
    kind = (_content(folder, PREPROCESSOR) or {}).get("feature_extractor_type")
    return kind == EXTRACTOR


def _characters(vocabulary: dict[str, int] | None, config: dict[str, Any]) -> Characters | None:
    """Single characters of a vocabulary, in lower case where it has only upper."""
    if not vocabulary:
        return None
    single = {SPACES.get(token, token): n for token, n in vocabulary.items() if len(token) == 1}
    if not any(character.islower() for character in single):
        single = {character.lower(): number for character, number in single.items()}
    return Characters(single, int(config.get("pad_token_id") or 0))


def _fetched(name: str) -> Path:
    """The folder of a hub's repository, its small files."""
    from huggingface_hub import snapshot_download  # slow to import, and only for a hub's names

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json"]))
    except (OSError, ValueError) as error:
        raise ValueError(f"network.pretrained {name}: {error}") from error


def _content(folder: Path, name: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"network.pretrained {folder}: {name}: {error}") from error
    return content
