"""Which split a document belongs to: by its own content, or by where the corpus is cut."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
FEW_DOCUMENTS = 20
KEPT_KEYS = 1000
KEYED_CHARACTERS = 1 << 16


@dataclass(frozen=True)
class Borders:
    """Where the splits begin: keys of documents, or characters of the whole corpus."""

    is_cut: bool
    train: float
    """Documents with keys from here on (characters before here, where cut) are for training."""
    validation: float
    """The same border between test and validation (validation and test, where cut)."""

    def of_key(self, key: float) -> str:
        """The split of a document, by `key_of` its text."""
        if key >= self.train:
            return "train"
        return "validation" if key >= self.validation else "test"

    def of_characters(self, start: int, length: int) -> list[tuple[str, int, int]]:
        """(split, from, to) of a chunk that starts at a character of the corpus; no empty parts."""
        edges = [0, int(self.train), int(self.validation), start + length]
        parts = []
        for split, left, right in zip(SPLITS, edges, [*edges[1:3], start + length], strict=False):
            low, high = max(left, start) - start, min(right, start + length) - start
            if low < high:
                parts.append((split, low, high))
        return parts


def key_of(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on the document's first 65,536 characters and the seed.

    Equal documents share it, so that no copy of a training text is held back.
    """
    start = text[:KEYED_CHARACTERS].encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(start, digest_size=8, key=str(seed).encode())
    return int.from_bytes(digest.digest()[:6], "big") / 2**48


def cut(num_characters: int, validation: float, test: float) -> Borders:
    """Training text first, then the shares of all characters for validation and for test."""
    train_end = int(round((1 - validation - test) * num_characters, 6))
    return Borders(True, train_end, int(round((1 - test) * num_characters, 6)))


def by_key(keys: Sequence[float], num_documents: int, validation: float, test: float) -> Borders:
    """Test documents have the lowest keys, validation the next.

    Up to KEPT_KEYS documents the shares are met by rank, and at least by one document each;
    above, the keys are even enough by themselves.
    """
    if num_documents > len(keys):
        return Borders(False, test + validation, test)
    ordered = sorted(keys)
    num_test = max(1, round(test * num_documents)) if test else 0
    held = num_test + (max(1, round(validation * num_documents)) if validation else 0)
    ordered += [1.0, 1.0]
    return Borders(False, ordered[min(held, num_documents)], ordered[num_test])
