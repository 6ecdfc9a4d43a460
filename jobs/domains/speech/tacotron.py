"""Tacotron 2 (arXiv:1712.05884): characters to spectrograms, with a voice for each speaker.

As in the paper but for: a table of speakers added to the encoder's output; `reduction` frames a
step (arXiv:1703.10135, section 3.3); batch norms that count no padding; and, so that an answer can
be repeated, masks of the pre-net's dropout in inference that are the same for every sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from jobs.domains.speech.attention import LocationSensitiveAttention
from jobs.domains.speech.convolving import Convolutions
from jobs.domains.speech.features import LOG_FLOOR, mask_of

MODEL_TYPE = "slipway-tacotron2"
PRENET_DROPOUT, ZONEOUT = 0.5, 0.1
ENCODER_LAYERS, POSTNET_LAYERS = 3, 5
MASK_SEED = 1712
MIDDLE, SPREAD = -5.0, 3.0
"""Log-mels of speech lie around; the network reads and writes them brought to about -1 to 1."""


class Tacotron2Config(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of the network, as its config.json holds them."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        vocab_size: int = 2,
        num_speakers: int = 1,
        num_mels: int = 80,
        width: int = 512,
        decoder: int = 1024,
        prenet: int = 256,
        attention: int = 128,
        reduction: int = 1,
        dropout: float = 0.5,
        **other: Any,
    ) -> None:
        self.vocab_size, self.num_speakers, self.num_mels = vocab_size, num_speakers, num_mels
        self.width, self.decoder, self.prenet, self.attention = width, decoder, prenet, attention
        self.reduction, self.dropout = reduction, dropout
        super().__init__(**other)

    @property
    def hidden_size(self) -> int:
        return int(self.width)


@dataclass
class Spoken:
    """Spectrograms of sentences, log-mels [batch, frames, mels]."""

    before: Tensor
    """Without the post-net's correction."""
    after: Tensor
    stops: Tensor
    """Logits of each step being the last, [batch, steps]."""
    attention: Tensor
    """[batch, steps, characters]."""
    frames: Tensor
    """Frames that count, [batch]."""
    has_stopped: Tensor
    """Whether the stop token ended it and not the bound, bool [batch]."""


class Encoder(nn.Module):
    """Characters to states: convolutions, then a recurrent layer in both directions."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.width
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.speakers = nn.Embedding(config.num_speakers, width)
        nn.init.normal_(self.speakers.weight, std=0.1)
        self.convolutions = Convolutions([width] * (ENCODER_LAYERS + 1), "relu", config.dropout)
        self.forth = nn.LSTM(width, width // 2, batch_first=True)
        self.back = nn.LSTM(width, width // 2, batch_first=True)

    def forward(self, ids: Tensor, mask: Tensor, speakers: Tensor) -> Tensor:
        """[batch, characters, width]; `speakers` [batch]."""
        states = self.convolutions(self.embedding(ids), mask)
        lengths = mask.sum(1, keepdim=True)
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        mirror = torch.where(mask, lengths - 1 - places, places)[..., None]
        turned = states.gather(1, mirror.expand_as(states))
        back = self.back(turned)[0]
        back = back.gather(1, mirror.expand_as(back))
        both = torch.cat([self.forth(states)[0], back], 2)
        return (both + self.speakers(speakers)[:, None]) * mask[..., None]  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Frames, step after step, from those before and from what attention looks at."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.reduction, self.num_mels = config.reduction, config.num_mels
        self.size = config.decoder
        self.narrow = nn.Linear(config.num_mels, config.prenet, bias=False)
        self.again = nn.Linear(config.prenet, config.prenet, bias=False)
        self.attending = nn.LSTMCell(config.prenet + config.width, config.decoder)
        self.attention = LocationSensitiveAttention(config.decoder, config.width, config.attention)
        self.speaking = nn.LSTMCell(config.decoder + config.width, config.decoder)
        self.frames = nn.Linear(config.decoder + config.width, config.num_mels * config.reduction)
        self.stop = nn.Linear(config.decoder + config.width, 1)

    def start(self, memory: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The state before the first step."""
        batch, characters, width = memory.shape
        zeros = memory.new_zeros
        keys, kernel = self.attention.prepare(memory)
        return {
            "memory": memory,
            "keys": keys,
            "kernel": kernel,
            "mask": mask,
            "seen": zeros(batch, 2, characters),
            "context": zeros(batch, width),
            **{name: zeros(batch, self.size) for name in ("h1", "c1", "h2", "c2")},
        }

    def step(self, frame: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """From the last frame after the pre-net to the next frames [batch, reduction * mels],
        the stop's logit [batch] and the weights [batch, characters]; changes `state`."""
        inner = torch.cat([frame, state["context"]], 1)
        h1, c1 = self.attending(inner, (state["h1"], state["c1"]))
        state["h1"], state["c1"] = self._zone(state["h1"], h1), self._zone(state["c1"], c1)
        prepared = state["keys"], state["kernel"]
        state["context"], weights = self.attention(
            state["h1"], prepared, state["memory"], state["seen"], state["mask"]
        )
        state["seen"] = torch.stack([weights, state["seen"][:, 1] + weights], 1)
        h2, c2 = self.speaking(
            torch.cat([state["h1"], state["context"]], 1), (state["h2"], state["c2"])
        )
        state["h2"], state["c2"] = self._zone(state["h2"], h2), self._zone(state["c2"], c2)
        found = torch.cat([state["h2"], state["context"]], 1)
        return self.frames(found), self.stop(found)[:, 0], weights

    def prepare(self, frames: Tensor, masks: Tensor | None) -> Tensor:
        """The pre-net over frames [..., mels]; `masks` [2, ..., prenet] in place of dropout."""
        states = frames
        for number, layer in enumerate((self.narrow, self.again)):
            states = functional.relu(layer(states))
            if masks is None:
                states = functional.dropout(states, PRENET_DROPOUT, True)
            else:
                states = states * masks[number]
        return states

    def _zone(self, before: Tensor, after: Tensor) -> Tensor:
        """Zoneout (arXiv:1606.01305): some values stay; all in part outside of training."""
        if not self.training:
            return ZONEOUT * before + (1 - ZONEOUT) * after
        stays = torch.rand_like(before) < ZONEOUT
        return torch.where(stays, before, after)


class Tacotron2ForSynthesis(PreTrainedModel):  # type: ignore[misc]
    """Characters to spectrograms, following given ones or by itself."""

    config_class = Tacotron2Config
    base_model_prefix = "encoder"
    main_input_name = "input_ids"

    def __init__(self, config: Tacotron2Config) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.postnet = Convolutions(
            [config.num_mels, *[config.width] * (POSTNET_LAYERS - 1), config.num_mels],
            "tanh",
            config.dropout,
            ends_plain=True,
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own initialisation stays."""

    def forward(
        self,
        input_ids: Tensor,
        lengths: Tensor,
        speakers: Tensor,
        mels: Tensor | None = None,
        frames: Tensor | None = None,
        bounds: Tensor | None = None,
    ) -> Spoken:
        """Texts [batch, characters] spoken after the frames `mels` [batch, frames, mels] that
        were, or, without those, by itself until the stop token, `bounds` steps [batch] at most."""
        mask = mask_of(lengths, input_ids.shape[1])
        state = self.decoder.start(self.encoder(input_ids, mask, speakers), mask)
        if mels is not None and frames is not None:
            return self._follow(state, mels, frames)
        assert bounds is not None
        return self._speak(state, bounds)

    def _follow(self, state: dict[str, Tensor], mels: Tensor, frames: Tensor) -> Spoken:
        """Teacher forcing: each step sees the frame that was, not the one it gave."""
        reduction, dtype = self.decoder.reduction, state["memory"].dtype
        steps = -(-mels.shape[1] // reduction)
        scaled = ((mels - MIDDLE) / SPREAD).to(dtype)
        last = scaled[:, reduction - 1 :: reduction][:, : steps - 1]
        begin = torch.cat([torch.zeros_like(scaled[:, :1]), last], 1)
        masks = None if self.training else self._masks(steps, dtype)
        given = self.decoder.prepare(begin, masks)
        made = [self.decoder.step(given[:, step], state) for step in range(steps)]
        return self._finished(made, mels.shape[1], frames, torch.ones_like(frames).bool())

    def _speak(self, state: dict[str, Tensor], bounds: Tensor) -> Spoken:
        memory, reduction = state["memory"], self.decoder.reduction
        frame = memory.new_zeros(len(memory), self.decoder.num_mels)
        has_stopped = torch.zeros_like(bounds, dtype=torch.bool)
        steps = torch.zeros_like(bounds)
        most = int(bounds.max())
        masks = self._masks(most, memory.dtype)
        made: list[tuple[Tensor, Tensor, Tensor]] = []
        for step in range(most):
            going = ~has_stopped & (bounds > step)
            if not bool(going.any()):
                break
            made.append(self.decoder.step(self.decoder.prepare(frame, masks[:, step]), state))
            frame = made[-1][0][:, -self.decoder.num_mels :]
            steps = steps + going
            has_stopped = has_stopped | (going & (made[-1][1] > 0))
        return self._finished(made, len(made) * reduction, steps * reduction, has_stopped)

    def _finished(
        self,
        made: list[tuple[Tensor, Tensor, Tensor]],
        size: int,
        frames: Tensor,
        has_stopped: Tensor,
    ) -> Spoken:
        values = torch.stack([found[0] for found in made], 1)
        before = values.reshape(len(values), -1, self.decoder.num_mels)[:, :size]
        mask = mask_of(frames, size)
        before = before * mask[..., None]
        after = before + self.postnet(before, mask)
        scaled = [
            (part.float() * SPREAD + MIDDLE).masked_fill(~mask[..., None], LOG_FLOOR)
            for part in (before, after)
        ]
        stops = torch.stack([found[1] for found in made], 1).float()
        attention = torch.stack([found[2] for found in made], 1).float()
        return Spoken(scaled[0], scaled[1], stops, attention, frames, has_stopped)

    def _masks(self, steps: int, dtype: torch.dtype) -> Tensor:
        """The pre-net's dropout in inference, [2, steps, prenet]: the paper keeps it there."""
        generator = torch.Generator().manual_seed(MASK_SEED)
        kept = torch.rand(steps, 2, self.config.prenet, generator=generator) >= PRENET_DROPOUT
        return (kept / (1 - PRENET_DROPOUT)).to(self.device, dtype).transpose(0, 1)
