"""Text to token ids and back: byte-level BPE and characters trained here, or a pretrained one.

A vocabulary is a folder that plain transformers read too (`tokenizer.json`,
`tokenizer_config.json`).
"""

import json
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
UNKNOWN = "<|unknown|>"

Ids = NDArray[np.int32]


class Vocabulary:
    """A tokenizer read from its folder; pickles with its content, for other machines."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self._setup((folder / "tokenizer.json").read_text("utf-8"), config.get("eos_token"))

    def __getstate__(self) -> tuple[str, str]:
        return self._text, self._mark

    def __setstate__(self, state: tuple[str, str]) -> None:
        self._setup(*state)

    def _setup(self, text: str, mark: Any) -> None:
        self._text, self._mark = text, mark["content"] if isinstance(mark, dict) else mark
        self._document = json.loads(text)
        self._tokenizer = _open(text)
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.end = self._end()
        self._is_character = _is_character(self._document)

    def encode(self, text: str) -> Ids:
        """Token ids of a text, without marks at its ends."""
        if self._is_character:
            return self._table[_code_points(text)]
        encoded = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return np.asarray(encoded[0].ids, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    @cached_property
    def extents(self) -> tuple[Ids, Ids]:
        """Characters and UTF-8 bytes that each token stands for, [size] each; marks stand for 0.

        Exact for byte-level BPE and known characters (an unknown one counts as one byte), so that
        losses per character or byte compare across vocabularies. The first byte of a character
        counts as the character.
        """
        spelled = [_bytes_of(token) for token in self._tokens()]
        characters = [sum(byte & 0xC0 != 0x80 for byte in word) for word in spelled]
        return np.asarray(characters, np.int32), np.asarray([len(w) for w in spelled], np.int32)

    def _tokens(self) -> Iterator[tuple[str, str]]:
        """(kind, token) of each id in order; kind is "mark", "bytes", "pieces" or "plain"."""
        added = self._document["added_tokens"]
        marks = {token["content"] for token in added if token["special"]}
        kind = _kind(self._document)
        for i in range(self.size):
            token = self._tokenizer.id_to_token(i) or ""
            if self._is_character and token == UNKNOWN:
                yield "plain", "?"
            else:
                yield ("mark" if token in marks else kind), token

    @cached_property
    def _table(self) -> Ids:
        """Id of every code point, [0x110000]."""
        table = np.full(0x110000, self._tokenizer.token_to_id(UNKNOWN), np.int32)
        for token, i in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if len(token) == 1:
                table[ord(token)] = i
        return table

    def _end(self) -> int:
        number = self._tokenizer.token_to_id(self._mark) if self._mark else None
        if number is None:
            raise ValueError(
                "the tokenizer has no end-of-text token; "
                'name one as "eos_token" in its tokenizer_config.json'
            )
        return int(number)


def train_bpe(texts: Iterable[str], size: int, folder: Path) -> Vocabulary:
    """Byte-level BPE (Radford et al., 2019) of at most `size` tokens, written to `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _save(tokenizer, folder)


def train_characters(texts: Iterable[str], size: int, folder: Path) -> Vocabulary:
    """The most frequent characters, at most `size` with the two marks, written to `folder`."""
    counts = np.zeros(0x110000, np.int64)
    for text in texts:
        present, times = np.unique(_code_points(text), return_counts=True)
        counts[present] += times
    points = np.flatnonzero(counts)
    kept = points[np.argsort(-counts[points], kind="stable")][: max(0, size - 2)]
    words = [END, UNKNOWN, *(chr(point) for point in sorted(kept.tolist()))]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([END, UNKNOWN])
    return _save(tokenizer, folder)


def _save(tokenizer: Tokenizer, folder: Path) -> Vocabulary:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.token_to_id(UNKNOWN) is not None:
        config["unk_token"] = UNKNOWN
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "tokenizer_config.json").write_text(text + "\n", "utf-8")
    return Vocabulary(folder)


@lru_cache(maxsize=4)
def _open(text: str) -> Tokenizer:
    """Opened once a process, as it may take longer than a small piece of work."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a text is only text
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _is_character(document: dict[str, Any]) -> bool:
    pattern = (document.get("pre_tokenizer") or {}).get("pattern") or {}
    return document["model"]["type"] == "WordLevel" and pattern.get("Regex") == r"[\s\S]"


def _kind(document: dict[str, Any]) -> str:
    """How this tokenizer spells its tokens."""
    if _is_character(document):
        return "plain"
    return "bytes" if '"ByteLevel"' in json.dumps(document["pre_tokenizer"]) else "pieces"


def _bytes_of(token: tuple[str, str]) -> bytes:
    kind, text = token
    if kind == "mark":
        return b""
    if kind == "plain":
        return text.encode()
    if kind == "bytes":
        return bytes(BYTE_OF[char] for char in text if char in BYTE_OF)
    if len(text) == 6 and text.startswith("<0x"):
        return bytes([int(text[3:5], 16)])
    return text.removeprefix("##").replace("\u2581", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-in of each byte in byte-level BPE, as in GPT-2's encoder.py."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    stand_ins = {chr(256 + i): byte for i, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | stand_ins


BYTE_OF = _byte_alphabet()
