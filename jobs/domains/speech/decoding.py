"""Logits to texts by CTC."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from jobs.domains.speech.characters import TEXTS, Characters


class Decoder:
    """Writes the likeliest characters, or the likeliest of the texts that it knows."""

    def __init__(self, characters: Characters, texts: Sequence[str] | None = None) -> None:
        self.characters, self.texts = characters, texts

    @classmethod
    def load(cls, folder: Path) -> Decoder:
        """As the processor's folder says."""
        path = folder / TEXTS
        texts = json.loads(path.read_text("utf-8")) if path.is_file() else None
        return cls(Characters.load(folder), texts)

    def texts_of(self, logits: Tensor, steps: Tensor) -> list[str]:
        """Of logits [batch, steps, characters] in fp32, and the steps of each [batch]."""
        heard = greedy(logits, steps, self.characters)
        if self.texts is None:
            return heard
        return likeliest(logits, steps, self.characters, self.texts, heard)


def likeliest(
    logits: Tensor,
    steps: Tensor,
    characters: Characters,
    texts: Sequence[str],
    otherwise: Sequence[str],
) -> list[str]:
    """The most probable of `texts` by CTC; one of `otherwise` for a recording too short for all."""
    encoded = [characters.encode(text) for text in texts]
    sizes = torch.tensor([len(numbers) for numbers in encoded])
    targets = torch.full((len(texts), max(1, int(sizes.max()))), characters.nothing)
    for numbers, into in zip(encoded, targets, strict=True):
        into[: len(numbers)] = torch.tensor(numbers, dtype=torch.long)
    found = []
    for own, size, other in zip(logits.cpu(), steps.tolist(), otherwise, strict=True):
        chances = own[:size].log_softmax(1)[:, None].expand(-1, len(texts), -1)
        lengths = torch.full((len(texts),), size)
        nats = functional.ctc_loss(
            chances, targets, lengths, sizes, characters.nothing, reduction="none"
        )
        best = int(nats.argmin())
        found.append(texts[best] if bool(nats[best].isfinite()) else other)
    return found


def greedy(logits: Tensor, steps: Tensor, characters: Characters) -> list[str]:
    """The likeliest character of each step [batch, steps, characters], repetitions taken once."""
    best = logits.argmax(2).cpu().tolist()
    texts = []
    for numbers, size in zip(best, steps.cpu().tolist(), strict=True):
        kept = [
            number
            for before, number in zip([None, *numbers[:size]], numbers[:size], strict=False)
            if number not in (before, characters.nothing)
        ]
        texts.append(" ".join(characters.decode(kept).split()))
    return texts
