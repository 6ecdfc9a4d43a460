"""Speech recognition by Whisper: the recordings, figures and reports of `recognition`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from jobs.domains.speech.answering import RecognitionAnswers
from jobs.domains.speech.characters import spoken
from jobs.domains.speech.recognition import Recognition
from jobs.domains.speech.whisper import (
    HalfMinutes,
    Tokens,
    build_whisper,
    load_whisper,
    nats_of,
    transcribe,
)

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


class Transcription(Recognition):
    """The domain object of a Whisper; it writes tokens in place of characters."""

    def __init__(self, model: ModelSpec, processor: Path, pretrained: Path | None = None) -> None:
        super().__init__(model, processor, pretrained, HalfMinutes(processor))
        self.tokens = Tokens(processor)

    def network(self) -> nn.Module:
        """The pretrained network."""
        return build_whisper(self.model, self.pretrained)

    def encode(self, text: str) -> list[int]:
        """Its tokens, with the end mark."""
        return self.tokens.encode(text)

    @property
    def filler(self) -> int:
        """The end mark again."""
        return self.tokens.end

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Nats per token, the mean of the records, scalar, fp32."""
        return self._told(network, batch).mean()

    def written(self, network: nn.Module, batch: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
        """As it is heard: what Whisper writes has capitals and punctuation."""
        texts = transcribe(network, batch["input_values"], self.tokens)
        return [spoken(text) for text in texts], self._told(network, batch)

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return load_whisper(str(folder))[0]

    def _told(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        targets, sizes = batch["targets"], batch["target_lengths"]
        return nats_of(network, batch["input_values"], targets, sizes, self.tokens.prompt)


class TranscriptionAnswers(RecognitionAnswers):
    """What is said in recordings of up to half a minute."""

    def __init__(self, network: nn.Module, folder: Path) -> None:
        super().__init__(network, folder, HalfMinutes(folder))
        self.tokens = Tokens(folder)

    def texts(self, values: Tensor, lengths: Tensor) -> list[str]:
        """With the capitals and punctuation that the network writes."""
        return [text.strip() for text in transcribe(self.network, values, self.tokens)]


def load_transcription(folder: Path, device: str) -> TranscriptionAnswers:
    """A saved network for answering, in its saved precision."""
    return TranscriptionAnswers(load_whisper(str(folder))[0].to(device).eval(), folder)
