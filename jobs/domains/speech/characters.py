"""Transcripts as numbers: which characters occur, and texts written one way. Needs no torch."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FILE = "characters.json"
TEXTS = "texts.json"
"""All that may be heard, where it is a list."""
FIRST = 2
"""Numbers below are 0, nothing (CTC's blank, padding), and 1, the end of a text."""
NOTHING, END = 0, 1
INSIDE = frozenset("'-")
"""Punctuation that is part of words."""


def spoken(text: str) -> str:
    """A transcript as it is heard: lower case, without punctuation but ' and -, single spaces."""
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    kept = (c if c in INSIDE or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    words = "".join(kept).split()
    return " ".join(word for word in words if word.strip("'-"))


def written(text: str) -> str:
    """A text to be read out: lower case with its punctuation, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


class Characters:
    """Characters and their numbers."""

    def __init__(self, numbers: Mapping[str, int], nothing: int = NOTHING) -> None:
        self.numbers = dict(numbers)
        self.nothing = nothing
        """CTC's blank, and what texts are filled up with."""
        self._known = {number: character for character, number in self.numbers.items()}

    @property
    def size(self) -> int:
        """One more than the highest number."""
        return max(FIRST - 1, self.nothing, *self._known) + 1

    def encode(self, text: str) -> list[int]:
        """Numbers of those characters that are known."""
        return [self.numbers[c] for c in text if c in self.numbers]

    def decode(self, numbers: Iterable[int]) -> str:
        return "".join(self._known.get(number, "") for number in numbers)

    def unknown(self, text: str) -> list[str]:
        return [c for c in text if c not in self.numbers]

    @classmethod
    def learn(cls, characters: Collection[str]) -> Characters:
        """Numbers from `FIRST` in the characters' order."""
        return cls({character: i for i, character in enumerate(sorted(characters), FIRST)})

    @classmethod
    def load(cls, folder: Path) -> Characters:
        content = json.loads((folder / FILE).read_text("utf-8"))
        return cls(content["numbers"], content["nothing"])

    def save(self, folder: Path) -> None:
        content = {"nothing": self.nothing, "numbers": self.numbers}
        (folder / FILE).write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def column(texts: Sequence[str]) -> pa.Array:
    """Texts as lists of code points, which rows can hold."""
    points = [np.fromiter(map(ord, text), np.int32, len(text)) for text in texts]
    return pa.array(points, pa.list_(pa.int32()))


def text_column(name: str, text: str) -> dict[str, NDArray[Any]]:
    """A text as a column of one row, [1, characters], as `jobs.rows` would give it."""
    return {
        name: np.asarray([[ord(c) for c in text]], np.int32).reshape(1, -1),
        f"{name}_length": np.asarray([len(text)], np.int64),
    }


def texts_of(points: NDArray[Any]) -> list[str]:
    """Texts of code points [batch, longest], filled up with 0."""
    return ["".join(map(chr, row[row > 0].tolist())) for row in points]
