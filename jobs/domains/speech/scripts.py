"""What a voice is given: texts and speakers as numbers; the same for training and serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.domains.speech.characters import END, Characters, texts_of
from jobs.domains.speech.tacotron import Spoken

FRAMES_PER_CHARACTER, MORE_FRAMES = 16, 80
"""Speech ends after so many frames of 12.5 ms for each character, and so many more, where no stop
token ends it: a fifth of a second a character is twice as slow as people speak."""


class Scripts:
    """Texts and speakers to numbers."""

    def __init__(self, characters: Characters, speakers: Sequence[str]) -> None:
        self.characters = characters
        self.speakers = {name: number for number, name in enumerate(speakers)}

    def collate(self, rows: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        """`input_ids` [batch, characters] with an end mark, `lengths` and `speakers` [batch].

        Characters and speakers that training had not are left out, and taken for the first.
        """
        encoded = [[*self.characters.encode(text), END] for text in texts_of(rows["text"])]
        lengths = torch.tensor([len(numbers) for numbers in encoded])
        ids = torch.zeros(len(encoded), int(lengths.max()), dtype=torch.long)
        for numbers, into in zip(encoded, ids, strict=True):
            into[: len(numbers)] = torch.tensor(numbers)
        names = texts_of(rows["speaker"])
        speakers = torch.tensor([self.speakers.get(name, 0) for name in names])
        return {"input_ids": ids, "lengths": lengths, "speakers": speakers}

    def speak(self, network: Any, batch: Mapping[str, Tensor]) -> Spoken:
        """Texts spoken by the network itself, bounded by their own lengths."""
        inner = getattr(network, "module", network)
        frames = batch["lengths"] * FRAMES_PER_CHARACTER + MORE_FRAMES
        found: Spoken = network(
            batch["input_ids"],
            batch["lengths"],
            batch["speakers"],
            bounds=frames // inner.config.reduction,
        )
        return found
