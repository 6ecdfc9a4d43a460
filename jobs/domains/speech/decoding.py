"""Logits to texts by CTC."""

from __future__ import annotations

from torch import Tensor

from jobs.domains.speech.characters import Characters


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
