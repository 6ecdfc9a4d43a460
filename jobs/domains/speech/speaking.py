"""Texts to sound, with a trained voice."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jobs.domains import Columns
from jobs.domains.speech.characters import Characters, text_column, written
from jobs.domains.speech.features import Mels
from jobs.domains.speech.padding import joined_rows
from jobs.domains.speech.preparation import speakers_of
from jobs.domains.speech.scripts import Scripts
from jobs.domains.speech.sounds import encode_wav
from jobs.domains.speech.vocoder import GriffinLim, Vocoder

MAX_CHARACTERS = 600
"""Longer texts are refused: send them sentence by sentence."""


class SynthesisAnswers:
    """Speaks texts."""

    def __init__(self, network: nn.Module, folder: Path) -> None:
        self.network = network
        self.scripts = Scripts(Characters.load(folder), speakers_of(folder))
        self.mels = Mels.load(folder)
        self.vocoder: Vocoder = GriffinLim(self.mels)

    def row(self, request: Mapping[str, Any]) -> Columns:
        """{"inputs": text, "parameters": {"speaker": name}} to code points, [1, characters]."""
        text = request.get("inputs")
        if not isinstance(text, str) or not text.strip():
            raise ValueError('"inputs" must be a text')
        if len(text) > MAX_CHARACTERS:
            raise ValueError(
                f"the text has {len(text):,} characters, more than {MAX_CHARACTERS}; send it "
                "sentence by sentence"
            )
        text = written(text)
        if not self.scripts.characters.encode(text):
            raise ValueError("the text holds no character that the voice has learned")
        return {**text_column("text", text), **text_column("speaker", self._speaker(request))}

    @torch.inference_mode()
    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """{"audio": a WAV file in base64, "sampling_rate"} of each text, spoken together."""
        device = next(self.network.parameters()).device
        batch = self.scripts.collate(joined_rows(rows))
        spoken = self.scripts.speak(self.network, {k: v.to(device) for k, v in batch.items()})
        answers = []
        for mels, frames in zip(spoken.after.cpu(), spoken.frames.tolist(), strict=True):
            wav = encode_wav(self.vocoder.speak(mels[:frames]).numpy(), self.mels.rate)
            audio = base64.b64encode(wav).decode()
            answers.append({"audio": audio, "sampling_rate": self.mels.rate})
        return answers

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """{"inputs": text} to {"audio": a WAV file in base64, "sampling_rate"}."""
        return self.answers([self.row(request)], [request])[0]

    def _speaker(self, request: Mapping[str, Any]) -> str:
        """The one asked for, else the first."""
        parameters = request.get("parameters") or {}
        if not isinstance(parameters, Mapping):
            raise ValueError('"parameters" must be a mapping')
        known = list(self.scripts.speakers)
        name = parameters.get("speaker")
        if name is None:
            return known[0]
        if name not in known:
            raise ValueError(f"no speaker {name!r}; there are: {', '.join(known) or 'one only'}")
        return str(name)
