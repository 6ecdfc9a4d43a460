"""Speech recognition: what is said in recordings, for training and for serving.

Rows hold `audio` (int16), `text` and `speaker` (code points), padded to the longest of a batch
with 0, and the length of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from jobs.domains import Columns, Outcomes
from jobs.domains.details import Detail, Shown
from jobs.domains.speech.answering import RecognitionAnswers
from jobs.domains.speech.augmentation import vary_waves
from jobs.domains.speech.characters import Characters, texts_of
from jobs.domains.speech.decoding import Decoder
from jobs.domains.speech.hearing import Hearing, Samples, Spectrograms, open_hearing
from jobs.domains.speech.networks import build_recogniser, load_recogniser
from jobs.domains.speech.pictures import stacked
from jobs.domains.speech.pretrained import is_whisper
from jobs.domains.speech.reading import read_rows
from jobs.domains.speech.sounds import Sound, encode_wav
from jobs.domains.speech.spectra import nearest_words
from jobs.domains.speech.transcripts import details_of, errors_of, metrics_of, worst_of
from jobs.domains.text.networks import save_network

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


class Recognition:
    """The domain object of a recogniser."""

    unit = "frames"
    labels = None
    batched_by = "audio"

    def __init__(
        self,
        model: ModelSpec,
        processor: Path,
        pretrained: Path | None = None,
        hearing: Hearing | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.pretrained = pretrained
        self.augment = model.train.augment
        self.sound = Sound.load(processor)
        self.decoder = Decoder.load(processor)
        self.characters: Characters = self.decoder.characters
        self.hearing: Hearing = hearing or open_hearing(processor)

    def network(self) -> nn.Module:
        """The network of the spec, freshly initialised, or the pretrained one."""
        return build_recogniser(self.model, self.characters, self.hearing, self.pretrained)

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """What the network hears (`input_values`, `lengths`), and what was said.

        `targets`, int64 [batch, longest], holds what is written, as much as `target_lengths`;
        `text` and `speaker` are the rows' own code points.
        """
        held = dict(rows)
        generator = np.random.default_rng(seed)
        if seed is not None:
            held = vary_waves(held, self.augment.speed, self.augment.noise, generator)
        values, lengths = self.hearing.hear(held)
        if seed is not None:
            values = self.hearing.vary(values, lengths, self.augment, generator)
        encoded = [self.encode(text) for text in texts_of(rows["text"])]
        sizes = torch.tensor([len(numbers) for numbers in encoded])
        targets = torch.full((len(encoded), max(1, int(sizes.max()))), self.filler)
        for numbers, into in zip(encoded, targets, strict=True):
            into[: len(numbers)] = torch.tensor(numbers)
        return {
            "input_values": values,
            "lengths": lengths,
            "targets": targets,
            "target_lengths": sizes,
            "text": torch.from_numpy(rows["text"].astype(np.int64)),
            "speaker": torch.from_numpy(rows["speaker"].astype(np.int64)),
        }

    def encode(self, text: str) -> list[int]:
        """What the network writes, as numbers: the known characters."""
        return self.characters.encode(text)

    @property
    def filler(self) -> int:
        """What texts as numbers are filled up with."""
        return self.characters.nothing

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Nats per character by CTC, the mean of the records, scalar, fp32."""
        return self._nats(*self._heard(network, batch), batch).mean()

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """Of each record what was said and heard, edits by words and characters, and nats."""
        heard, nats = self.written(network, batch)
        found = errors_of(texts_of(batch["text"].cpu().numpy()), heard)
        speakers = texts_of(batch["speaker"].cpu().numpy())
        named = {"speaker": np.asarray(speakers, np.str_), "nats": nats.double().cpu().numpy()}
        return found | named

    def written(self, network: nn.Module, batch: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
        """The texts that the network writes, and its nats for those that were said, [batch]."""
        logits, steps = self._heard(network, batch)
        return self.decoder.texts_of(logits, steps), self._nats(logits, steps, batch)

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """wer, cer and loss (nats per character)."""
        return metrics_of(outcomes)

    def details(self, outcomes: Outcomes) -> list[Detail]:
        """Error rates of each speaker, and the words that were misheard."""
        return details_of(outcomes)

    def worst(self, outcomes: Outcomes, count: int) -> NDArray[np.int64]:
        """The records with the highest character error rate."""
        return worst_of(outcomes, count)

    def show(self, rows: Columns, outcomes: Outcomes) -> list[Shown]:
        """Recordings to hear, their spectrograms, what was said and what was heard."""
        shown = []
        texts = texts_of(rows["text"])
        heard = outcomes["heard"].tolist()
        for place, (said, other) in enumerate(zip(texts, heard, strict=True)):
            samples = rows["audio"][place][: int(rows["audio_length"][place])]
            wav = encode_wav(samples, self.sound.rate)
            picture = stacked([self.hearing.picture(samples)])
            shown.append(Shown(said, picture, wav, f'heard "{other}"'))
        return shown

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """Logistic regression from a coarse spectrum to whole texts, the most frequent ones."""
        name, said, heard = nearest_words(train, held_back, self.sound.rate)
        found = metrics_of(errors_of(said, heard))
        return {"name": name, "wer": found["wer"], "cer": found["cer"]}

    def count(self, batch: Mapping[str, Tensor]) -> int:
        """Hundredths of a second."""
        return int(self.hearing.num_frames(batch["lengths"]).sum())

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Any recordings with their texts as batches of rows."""
        return read_rows(self.model, self.pretrained, self.processor, paths, rows_per_batch)

    def flops(self, network: nn.Module) -> float:
        """6 per parameter and step, spread over the frames of a step."""
        parameters = sum(getattr(p, "ds_numel", p.numel()) for p in network.parameters())
        return 6.0 * parameters / self.hearing.frames_per_step(network)

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return load_recogniser(str(folder))[0]

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """A folder of transformers' layout, with what `load` needs beside it."""
        save_network(network, state, self.processor, folder)

    def _heard(self, network: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [batch, steps, characters] in fp32, and the steps of each."""
        assert isinstance(self.hearing, Spectrograms | Samples)
        logits, steps = self.hearing.logits(network, batch["input_values"], batch["lengths"])
        return logits.float(), steps

    def _nats(self, logits: Tensor, steps: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Per character of each record, [batch]; 0 for a text too long for its recording."""
        sizes = batch["target_lengths"]
        nats = functional.ctc_loss(
            logits.log_softmax(2).transpose(0, 1),
            batch["targets"],
            steps,
            sizes,
            self.characters.nothing,
            reduction="none",
            zero_infinity=True,
        )
        return nats / sizes.clamp(min=1)


def open_domain(model: ModelSpec, processor: Path, pretrained: Path | None = None) -> Recognition:
    if is_whisper(processor):
        from jobs.domains.speech.transcription import Transcription

        return Transcription(model, processor, pretrained)
    return Recognition(model, processor, pretrained)


def load(folder: Path, device: str = "cpu") -> RecognitionAnswers:
    """A saved network for answering, in its saved precision."""
    if is_whisper(folder):
        from jobs.domains.speech.transcription import load_transcription

        return load_transcription(folder, device)
    network = load_recogniser(str(folder))[0].to(device).eval()
    return RecognitionAnswers(network, folder)
