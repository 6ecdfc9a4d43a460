"""What Tacotron 2 is trained on, for each record apart from the others' lengths."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from jobs.domains.speech.attention import diagonal_distance
from jobs.domains.speech.features import mask_of
from jobs.domains.speech.tacotron import SPREAD, Spoken

STOP_WEIGHT = 20.0
"""Few steps of many are the end: their loss counts so much."""
END_FRAMES = 8
"""The end is the last tenth of a second, half of it silence: a voice that must find one moment
misses it, and then speaks on, as no recording tells what comes after."""


def losses_of(
    spoken: Spoken, batch: Mapping[str, Tensor], reduction: int, guide: float
) -> dict[str, Tensor]:
    """`loss`, and `mel_loss` (absolute, nats, after the post-net), fp32 [batch] each."""
    mels, frames = batch["mels"], batch["frames"]
    mask = mask_of(frames, mels.shape[1])
    before, after = ((part - mels) / SPREAD for part in (spoken.before, spoken.after))
    squares = _mean((before**2).mean(2) + (after**2).mean(2), mask)
    steps = -(-frames // reduction)
    walked = mask_of(steps, spoken.stops.shape[1])
    ends = -(-(frames - END_FRAMES).clamp(min=1) // reduction) - 1
    is_last = torch.arange(spoken.stops.shape[1], device=frames.device) >= ends[:, None]
    stops = functional.binary_cross_entropy_with_logits(
        spoken.stops,
        is_last.float(),
        pos_weight=torch.tensor(STOP_WEIGHT, device=frames.device),
        reduction="none",
    )
    away = diagonal_distance(batch["lengths"], steps, spoken.attention.shape[1:])  # type: ignore[arg-type]
    guided = _mean((spoken.attention * away).sum(2), walked)
    loss = squares + _mean(stops, walked) + guide * guided
    return {"loss": loss, "mel_loss": _mean((after.abs() * SPREAD).mean(2), mask)}


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over the time of each record, [batch, time] to [batch]."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)
