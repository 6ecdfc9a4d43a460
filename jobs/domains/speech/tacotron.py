"""Tacotron 2 (arXiv:1712.05884): characters to spectrograms, with a voice for each speaker.

As in the paper but for: a table of speakers added to the encoder's output; `reduction` frames a
step (arXiv:1703.10135, section 3.3); batch norms that count no padding; an end also where attention
rests on the last character; and, so that an answer can be repeated, masks of the pre-net's dropout
in inference that are the same for every sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
REST_FRAMES = 40
"""Attention that rests for half a second on the last character has read the sentence: a voice that
learned from few recordings does not always give its stop token then, and would babble on."""
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


class Spoken(NamedTuple):
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
    """Whether it ended by itself and not at the bound, bool [batch]."""


class Steps(NamedTuple):
    """What the decoder made of sentences."""

    values: Tensor
    """[batch, steps, reduction * mels]."""
    stops: Tensor
    attention: Tensor
    steps: Tensor
    """That count, [batch]."""
    has_stopped: Tensor


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

    is_whole = True
    """Each of a pass's many steps needs all of its weights: ZeRO stage 3 gathers them once a pass.
    Workers, whose sentences differ in length, would otherwise wait for each other without end."""

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

    def forward(
        self,
        memory: Tensor,
        mask: Tensor,
        masks: Tensor | None,
        given: Tensor | None,
        bounds: Tensor,
    ) -> Steps:
        """After `given` frames [batch, steps, mels], one before each step, or by itself until it
        ends, `bounds` steps [batch] at most; `masks` as in `_prepare`."""
        state = self._start(memory, mask)
        if given is None:
            return self._alone(state, masks, bounds)
        prepared = self._prepare(given, masks)
        made = [self._step(prepared[:, step], state) for step in range(given.shape[1])]
        return _stacked(made, bounds, torch.ones_like(bounds).bool())

    def _alone(self, state: dict[str, Tensor], masks: Tensor | None, bounds: Tensor) -> Steps:
        memory = state["memory"]
        frame = memory.new_zeros(len(memory), self.num_mels)
        has_stopped = torch.zeros_like(bounds, dtype=torch.bool)
        steps, rests = torch.zeros_like(bounds), torch.zeros_like(bounds)
        last = state["mask"].sum(1) - 1
        made: list[tuple[Tensor, Tensor, Tensor]] = []
        for step in range(int(bounds.max())):
            going = ~has_stopped & (bounds > step)
            if not bool(going.any()):
                break
            own = None if masks is None else masks[:, step]
            made.append(self._step(self._prepare(frame, own), state))
            frame = made[-1][0][:, -self.num_mels :]
            steps = steps + going
            rests = torch.where(made[-1][2].argmax(1) == last, rests + 1, 0)
            is_over = (made[-1][1] > 0) | (rests * self.reduction >= REST_FRAMES)
            has_stopped = has_stopped | (going & is_over)
        return _stacked(made, steps, has_stopped)

    def _start(self, memory: Tensor, mask: Tensor) -> dict[str, Tensor]:
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

    def _step(self, frame: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
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

    def _prepare(self, frames: Tensor, masks: Tensor | None) -> Tensor:
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


def _stacked(
    made: Sequence[tuple[Tensor, Tensor, Tensor]], steps: Tensor, has_stopped: Tensor
) -> Steps:
    values, stops, attention = (torch.stack(column, 1) for column in zip(*made, strict=True))
    return Steps(values, stops, attention, steps, has_stopped)


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
        were, or, without those, by itself until it ends, `bounds` steps [batch] at most."""
        mask = mask_of(lengths, input_ids.shape[1])
        memory = self.encoder(input_ids, mask, speakers)
        reduction, dtype = self.decoder.reduction, memory.dtype
        if mels is None or frames is None:
            assert bounds is not None
            alone = self._masks(int(bounds.max()), dtype)
            made = self.decoder(memory, mask, alone, None, bounds)
            return self._finished(made, made.values.shape[1] * reduction, made.steps * reduction)
        steps = -(-mels.shape[1] // reduction)
        given = self._before(mels, steps).to(dtype)
        masks = None if self.training else self._masks(steps, dtype)
        made = self.decoder(memory, mask, masks, given, -(-frames // reduction))
        return self._finished(made, mels.shape[1], frames)

    def _before(self, mels: Tensor, steps: int) -> Tensor:
        """Teacher forcing: what each step sees is the frame that was, not the one it gave."""
        reduction, scaled = self.decoder.reduction, (mels - MIDDLE) / SPREAD
        last = scaled[:, reduction - 1 :: reduction][:, : steps - 1]
        return torch.cat([torch.zeros_like(scaled[:, :1]), last], 1)

    def _finished(self, made: Steps, size: int, frames: Tensor) -> Spoken:
        before = made.values.reshape(len(frames), -1, self.decoder.num_mels)[:, :size]
        mask = mask_of(frames, size)
        before = before * mask[..., None]
        after = before + self.postnet(before, mask)
        scaled = [
            (part.float() * SPREAD + MIDDLE).masked_fill(~mask[..., None], LOG_FLOOR)
            for part in (before, after)
        ]
        stops, attention = made.stops.float(), made.attention.float()
        return Spoken(scaled[0], scaled[1], stops, attention, frames, made.has_stopped)

    def _masks(self, steps: int, dtype: torch.dtype) -> Tensor:
        """The pre-net's dropout in inference, [2, steps, prenet]: the paper keeps it there."""
        generator = torch.Generator().manual_seed(MASK_SEED)
        kept = torch.rand(steps, 2, self.config.prenet, generator=generator) >= PRENET_DROPOUT
        return (kept / (1 - PRENET_DROPOUT)).to(self.device, dtype).transpose(0, 1)
