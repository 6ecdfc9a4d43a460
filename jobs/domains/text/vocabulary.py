"""Text to token ids and back: byte-level BPE, WordPiece and characters learned here, or pretrained.

A vocabulary is a folder that plain transformers read too (`tokenizer.json`,
`tokenizer_config.json`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from jobs.domains.text.spelling import bytes_of

END = "<|endoftext|>"
UNKNOWN = "<|unknown|>"
ROLES = ("eos_token", "pad_token", "unk_token", "mask_token")
"""What a tokenizer_config.json says of marks that this module reads."""

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Marks:
    """The tokens of a new vocabulary that no text has, and what they are for."""

    tokens: tuple[str, ...]
    unknown: str
    roles: Mapping[str, str]
    """As tokenizer_config.json names them."""
    frames: bool
    """Every text stands between [CLS] and [SEP]."""


STREAM = Marks((END,), UNKNOWN, {"bos_token": END, "eos_token": END}, False)
"""Of a decoder, which reads documents one after the other."""
FRAME = Marks(
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "[UNK]",
    {
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    True,
)
"""Of an encoder, which reads one text at a time (Devlin et al., 2018)."""


class Vocabulary:
    """A tokenizer read from its folder; pickles with its content, for other machines."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text("utf-8")) if path.exists() else {}
        roles = {role: _content(config[role]) for role in ROLES if config.get(role)}
        self._setup((folder / "tokenizer.json").read_text("utf-8"), roles)

    def __getstate__(self) -> tuple[str, dict[str, str]]:
        return self._text, self._roles

    def __setstate__(self, state: tuple[str, dict[str, str]]) -> None:
        self._setup(*state)

    def _setup(self, text: str, roles: dict[str, str]) -> None:
        self._text, self._roles = text, roles
        self._document = json.loads(text)
        self._tokenizer = _open(text)
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.end = self._end()
        padding = self._id("pad_token")
        self.padding: int = self.end if padding is None else padding
        """What fills up a batch."""
        self.mask: int | None = self._id("mask_token")
        """What stands for a token to be guessed; None where the vocabulary has none."""
        self._is_character = _is_character(self._document)

    def encode(self, text: str) -> Ids:
        """Token ids of a text, without marks at its ends."""
        if self._is_character:
            return self._table[_code_points(text)]
        encoded = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return np.asarray(encoded[0].ids, np.int32)

    @cached_property
    def frame(self) -> tuple[Ids, Ids]:
        """The marks that every text of an encoder stands between."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a", add_special_tokens=True).ids
        start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
        before, after = framed[:start], framed[start + len(bare) :]
        return np.asarray(before, np.int32), np.asarray(after, np.int32)

    def encode_framed(self, text: str, longest: int) -> Ids:
        """Token ids of a text between its marks, the text cut so that all are `longest` at most."""
        before, after = self.frame
        room = max(0, longest - before.size - after.size)
        return np.concatenate([before, self.encode(text)[:room], after])

    @property
    def mask_text(self) -> str:
        """How a text writes what is to be guessed."""
        return self._roles.get("mask_token", "")

    @cached_property
    def marks(self) -> Ids:
        """Ids of all tokens that no text has."""
        added = self._document["added_tokens"]
        return np.asarray(sorted(t["id"] for t in added if t["special"]), np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def spell(self, token: int) -> str:
        """The text of one token, with a space before it where it begins a word; "" of a mark."""
        text = self.decode([token])
        if self._document["model"]["type"] != "WordPiece" or not text:
            return text
        if text.startswith("##") and len(text) > 2:
            return text[2:]
        is_chinese = "\u2e80" <= text[0] <= "\u9fff"  # a word each, written without spaces
        return text if is_chinese else f" {text}"

    @cached_property
    def extents(self) -> tuple[Ids, Ids]:
        """Characters and UTF-8 bytes that each token stands for, [size] each; marks stand for 0.

        Exact for byte-level BPE and known characters (an unknown one counts as one byte), so that
        losses per character or byte compare across vocabularies. The first byte of a character
        counts as the character.
        """
        spelled = [bytes_of(token) for token in self._tokens()]
        characters = [sum(byte & 0xC0 != 0x80 for byte in word) for word in spelled]
        return np.asarray(characters, np.int32), np.asarray([len(w) for w in spelled], np.int32)

    def _tokens(self) -> Iterator[tuple[str, str]]:
        """(kind, token) of each id in order; kind is "mark", "bytes", "pieces" or "plain"."""
        added = self._document["added_tokens"]
        marks = {token["content"] for token in added if token["special"]}
        kind = _kind(self._document)
        for i in range(self.size):
            token = self._tokenizer.id_to_token(i) or ""
            if self._is_character and token == self._document["model"]["unk_token"]:
                yield "plain", "?"
            else:
                yield ("mark" if token in marks else kind), token

    @cached_property
    def _table(self) -> Ids:
        """Id of every code point, [0x110000]."""
        unknown = self._tokenizer.token_to_id(self._document["model"]["unk_token"])
        table = np.full(0x110000, unknown, np.int32)
        for token, i in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if len(token) == 1:
                table[ord(token)] = i
        return table

    def _end(self) -> int:
        number = self._id("eos_token")
        if number is None:
            raise ValueError(
                "the tokenizer has no end-of-text token; "
                'name one as "eos_token" in its tokenizer_config.json'
            )
        return number

    def _id(self, role: str) -> int | None:
        """Id of the token that the tokenizer's configuration names for a role."""
        number = self._tokenizer.token_to_id(self._roles[role]) if role in self._roles else None
        return None if number is None else int(number)


def train_bpe(texts: Iterable[str], size: int, folder: Path, marks: Marks = STREAM) -> Vocabulary:
    """Byte-level BPE (Radford et al., 2019) of at most `size` tokens, written to `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(marks.tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _save(tokenizer, folder, marks)


def train_wordpiece(
    texts: Iterable[str], size: int, folder: Path, marks: Marks = FRAME
) -> Vocabulary:
    """WordPiece as BERT reads text: lower case, no accents, each Chinese character a word.

    At most `size` tokens, written to `folder`.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=marks.unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=list(marks.tokens),
        limit_alphabet=max(1, size - len(marks.tokens)),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _save(tokenizer, folder, marks)


def train_characters(
    texts: Iterable[str], size: int, folder: Path, marks: Marks = STREAM
) -> Vocabulary:
    """The most frequent characters, at most `size` with the marks, written to `folder`."""
    own = list(dict.fromkeys([*marks.tokens, marks.unknown]))
    counts = np.zeros(0x110000, np.int64)
    for text in texts:
        present, times = np.unique(_code_points(text), return_counts=True)
        counts[present] += times
    points = np.flatnonzero(counts)
    kept = points[np.argsort(-counts[points], kind="stable")][: max(0, size - len(own))]
    words = [*own, *(chr(point) for point in sorted(kept.tolist()))]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=marks.unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(own)
    return _save(tokenizer, folder, marks)


def _save(tokenizer: Tokenizer, folder: Path, marks: Marks) -> Vocabulary:
    folder.mkdir(parents=True, exist_ok=True)
    if marks.frames:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")],
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **marks.roles,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.token_to_id(marks.unknown) is not None:
        config["unk_token"] = marks.unknown
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "tokenizer_config.json").write_text(text + "\n", "utf-8")
    return Vocabulary(folder)


def _content(mark: Any) -> str:
    return str(mark["content"] if isinstance(mark, dict) else mark)


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
