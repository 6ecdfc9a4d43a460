"""Requests to answers, with trained recognisers and voices."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jobs.domains import Columns
from jobs.domains.speech.decoding import Decoder
from jobs.domains.speech.hearing import Hearing, Samples, Spectrograms, open_hearing
from jobs.domains.speech.padding import joined_rows
from jobs.domains.speech.sounds import MAX_BYTES, Sound, SoundError, decode


class RecognitionAnswers:
    """What is said in recordings; the bytes of a WAV, FLAC, OGG or MP3 file each."""

    def __init__(self, network: nn.Module, folder: Path, hearing: Hearing | None = None) -> None:
        self.network = network
        self.sound = Sound.load(folder)
        self.decoder = Decoder.load(folder)
        self.hearing = hearing or open_hearing(folder)

    def row(self, request: Mapping[str, Any]) -> Columns:
        """{"inputs": bytes, or their base64} to samples, [1, time]."""
        try:
            samples = decode(recording_of(request), self.sound)
        except SoundError as error:
            raise ValueError(f"the recording cannot be used: {error}") from error
        return {"audio": samples[None], "audio_length": np.asarray([len(samples)], np.int64)}

    @torch.inference_mode()
    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """{"text"} of each recording, heard together."""
        values, lengths = self.hearing.hear(joined_rows(rows))
        device = next(self.network.parameters()).device
        return [{"text": text} for text in self.texts(values.to(device), lengths.to(device))]

    def texts(self, values: Tensor, lengths: Tensor) -> list[str]:
        """What is said in recordings as the network hears them."""
        assert isinstance(self.hearing, Spectrograms | Samples)
        logits, steps = self.hearing.logits(self.network, values, lengths)
        return self.decoder.texts_of(logits.float(), steps)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """{"inputs": bytes, or their base64} to {"text"}."""
        return self.answers([self.row(request)], [request])[0]


def recording_of(request: Mapping[str, Any]) -> bytes:
    """The bytes of a request's recording; ValueError where there are none."""
    given = request.get("inputs")
    if isinstance(given, str):
        try:
            given = base64.b64decode(given.partition("base64,")[2] or given, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError('"inputs" must be a recording in base64') from error
    if not isinstance(given, bytes | bytearray | memoryview):
        raise ValueError('"inputs" must be the bytes of a recording, or their base64')
    if len(given) > MAX_BYTES:
        raise ValueError(f"the recording has more than {MAX_BYTES >> 20} MiB")
    return bytes(given)
