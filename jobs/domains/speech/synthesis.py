"""Speech synthesis: texts spoken in the voices of recordings, for training and for serving.

Rows are those of recognition: `audio` (int16), `text` and `speaker` (code points), padded to the
longest of a batch with 0, and the length of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.domains import Columns, Outcomes
from jobs.domains.details import Detail, Shown
from jobs.domains.speech.attention import alignment_of
from jobs.domains.speech.characters import Characters, texts_of
from jobs.domains.speech.features import Mels, log_mels, mask_of, waves_of
from jobs.domains.speech.networks import build_voice, load_voice
from jobs.domains.speech.pictures import stacked
from jobs.domains.speech.preparation import speakers_of
from jobs.domains.speech.reading import read_rows
from jobs.domains.speech.scripts import Scripts
from jobs.domains.speech.sounds import encode_wav
from jobs.domains.speech.speaking import SynthesisAnswers
from jobs.domains.speech.tacotron import Spoken
from jobs.domains.speech.tacotron_loss import losses_of
from jobs.domains.speech.vocoder import GriffinLim, Vocoder
from jobs.domains.speech.voices import details_of, metrics_of, notes_of, worst_of
from jobs.domains.text.networks import save_network

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


class Synthesis:
    """The domain object of a voice."""

    unit = "frames"
    labels = None
    batched_by = "audio"

    def __init__(self, model: ModelSpec, processor: Path, pretrained: Path | None = None) -> None:
        self.model = model
        self.processor = processor
        self.shape: Any = model.network
        self.scripts = Scripts(Characters.load(processor), speakers_of(processor))
        self.mels = Mels.load(processor)
        self.vocoder: Vocoder = GriffinLim(self.mels)
        self._scored: nn.Module | None = None

    def network(self) -> nn.Module:
        """Tacotron 2, freshly initialised."""
        return build_voice(self.shape, self.scripts, self.mels)

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """Characters (`input_ids`, `lengths`, with an end mark), `speakers` by number, and the
        recordings' log-mels (`mels` [batch, frames, mels], `frames` of each).

        `text` and `speaker` are the rows' own code points. Nothing is augmented.
        """
        mels, frames = log_mels(*waves_of(rows), self.mels)
        return self.scripts.collate(rows) | {
            "mels": mels,
            "frames": frames,
            "text": torch.from_numpy(rows["text"].astype(np.int64)),
            "speaker": torch.from_numpy(rows["speaker"].astype(np.int64)),
        }

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Squared errors before and after the post-net, the stop's cross entropy and the guide of
        attention, the mean of the records, scalar, fp32."""
        return self._followed(network, batch)["loss"].mean()

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """Of each record: `mel_loss` and `loss` when it follows the recording; and, speaking by
        itself, `alignment`, whether it `stopped`, and its frames beside those recorded."""
        self._scored = network
        followed = self._followed(network, batch)
        spoken = self.scripts.speak(network, batch)
        sizes = batch["lengths"].tolist()
        found = {name: values.double().cpu().numpy() for name, values in followed.items()}
        steps = -(-spoken.frames // self.shape.reduction)
        return found | {
            "alignment": np.asarray(
                [
                    alignment_of(weights[:many].cpu(), size)
                    for weights, many, size in zip(
                        spoken.attention, steps.tolist(), sizes, strict=True
                    )
                ]
            ),
            "stopped": spoken.has_stopped.long().cpu().numpy(),
            "frames": spoken.frames.cpu().numpy(),
            "recorded": batch["frames"].cpu().numpy(),
            "text": np.asarray(texts_of(batch["text"].cpu().numpy()), np.str_),
            "speaker": np.asarray(texts_of(batch["speaker"].cpu().numpy()), np.str_),
        }

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """mel_loss (absolute, in nats), alignment (0 to 1) and loss, means of the records."""
        return metrics_of(outcomes)

    def details(self, outcomes: Outcomes) -> list[Detail]:
        """How sentences were read, and each speaker's figures."""
        return details_of(outcomes)

    def worst(self, outcomes: Outcomes, count: int) -> NDArray[np.int64]:
        """The sentences that were read with the least order."""
        return worst_of(outcomes, count)

    @torch.no_grad()
    def show(self, rows: Columns, outcomes: Outcomes) -> list[Shown]:
        """Each recording, then the same sentence by the network that `outcomes` scored last:
        sound, spectrogram, and where attention looked (characters from below, time to the right);
        beside the recording, where it looks when it follows that.
        """
        batch, rate = self.collate(rows), self.mels.rate
        texts, notes = texts_of(rows["text"]), notes_of(outcomes)
        followed = spoken = None
        if self._scored is not None:
            device = next(self._scored.parameters()).device
            moved = {name: values.to(device) for name, values in batch.items()}
            followed = self._follow(self._scored, moved)
            spoken = self.scripts.speak(self._scored, moved)
        shown: list[Shown] = []
        for place, text in enumerate(texts):
            samples = rows["audio"][place][: int(rows["audio_length"][place])]
            size = int(batch["lengths"][place])
            mels = batch["mels"][place, : int(batch["frames"][place])]
            picture = stacked([mels.T.numpy(), *self._looked(followed, place, size)])
            shown.append(Shown(text, picture, encode_wav(samples, rate), "as recorded"))
            if spoken is not None:
                made = spoken.after[place, : int(spoken.frames[place])].cpu()
                picture = stacked([made.T.numpy(), *self._looked(spoken, place, size)])
                wav = encode_wav(self.vocoder.speak(made).numpy(), rate)
                shown.append(Shown(text, picture, wav, notes[place]))
        return shown

    def _looked(self, spoken: Spoken | None, place: int, size: int) -> list[NDArray[np.float32]]:
        """Attention of one sentence, [characters, frames], where there is any."""
        if spoken is None:
            return []
        frames = int(spoken.frames[place])
        steps = -(-frames // self.shape.reduction)
        looked = spoken.attention[place, :steps, :size].cpu()
        wide = looked.repeat_interleave(self.shape.reduction, 0)[:frames]
        found: NDArray[np.float32] = wide.T.numpy()
        return [found]

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """The mean spectrum of the training recordings, all the time."""
        total, count = torch.zeros(self.mels.num_mels, dtype=torch.float64), 0
        for rows in train:
            values, frames = log_mels(*waves_of(rows), self.mels)
            mask = mask_of(frames, values.shape[1])
            total += values[mask].double().sum(0)
            count += int(frames.sum())
        mean = (total / max(count, 1)).float()
        losses: list[float] = []
        for rows in held_back:
            values, frames = log_mels(*waves_of(rows), self.mels)
            for one, many in zip(values, frames.tolist(), strict=True):
                losses.append(float((one[:many] - mean).abs().mean()))
        return {"name": "mean spectrum", "mel_loss": float(np.mean(losses))}

    def count(self, batch: Mapping[str, Tensor]) -> int:
        """Frames of the recordings."""
        return int(batch["frames"].sum())

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Any recordings with their texts as batches of rows."""
        return read_rows(self.model, None, self.processor, paths, rows_per_batch)

    def flops(self, network: nn.Module) -> float:
        """6 per parameter and step, spread over the frames of a step."""
        parameters = sum(getattr(p, "ds_numel", p.numel()) for p in network.parameters())
        return float(6 * parameters / self.shape.reduction)

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return load_voice(str(folder))

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """A folder of transformers' layout, with what `load` needs beside it."""
        save_network(network, state, self.processor, folder)

    def _followed(self, network: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        spoken = self._follow(network, batch)
        return losses_of(spoken, batch, self.shape.reduction, self.shape.guide)

    def _follow(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Spoken:
        spoken: Spoken = network(
            batch["input_ids"], batch["lengths"], batch["speakers"], batch["mels"], batch["frames"]
        )
        return spoken


def open_domain(model: ModelSpec, processor: Path, pretrained: Path | None = None) -> Synthesis:
    return Synthesis(model, processor, pretrained)


def load(folder: Path, device: str = "cpu") -> SynthesisAnswers:
    """A saved network for answering, in its saved precision."""
    return SynthesisAnswers(load_voice(str(folder)).to(device).eval(), folder)
