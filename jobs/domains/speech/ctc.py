"""A recogniser by connectionist temporal classification (Graves et al., 2006).

Convolutions shorten the spectrogram, blocks of attention and of convolution (after Conformer,
arXiv:2005.08100, without its relative positions) read it, a linear layer writes a character or
nothing at each step. It is a network of transformers' kind, so that its folder is one too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from jobs.domains.speech.features import mask_of

MODEL_TYPE = "slipway-ctc"
STEM_KERNEL = 5


class CTCConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of the network, as its config.json holds them."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        vocab_size: int = 2,
        num_mels: int = 80,
        width: int = 144,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        kernel: int = 15,
        subsampling: int = 4,
        dropout: float = 0.1,
        **other: Any,
    ) -> None:
        self.vocab_size, self.num_mels, self.width = vocab_size, num_mels, width
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.kernel, self.subsampling, self.dropout = kernel, subsampling, dropout
        super().__init__(**other)

    @property
    def hidden_size(self) -> int:
        return int(self.width)


class Stem(nn.Module):
    """Spectrograms to states, in steps of `subsampling` frames."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        halvings = int(math.log2(config.subsampling))
        strides = [2] * halvings + [1] * (2 - halvings)
        sizes = [config.num_mels, config.width, config.width]
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, STEM_KERNEL, stride, STEM_KERNEL // 2)
            for a, b, stride in zip(sizes, sizes[1:], strides, strict=False)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, mels] to [batch, steps, width], and the steps of each, [batch]."""
        states = values.transpose(1, 2)
        for layer in self.layers:
            states = functional.gelu(layer(states))
            lengths = steps_of(lengths, layer.stride[0])  # type: ignore[index,arg-type]
            states = states * mask_of(lengths, states.shape[2])[:, None]
        return self.norm(states.transpose(1, 2)), lengths


class Block(nn.Module):
    """Attention, a convolution in depth, and a feed-forward layer, each beside a way round."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, kernel = config.width, config.kernel
        self.heads, self.dropout = config.num_attention_heads, config.dropout
        self.attention_norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.convolution_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.inner_norm = nn.LayerNorm(width)
        self.mixed = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """[batch, steps, width]; `mask` [batch, steps] is True for what counts."""
        states = states + self._drop(self._attend(self.attention_norm(states), mask))
        states = states + self._drop(self._convolve(self.convolution_norm(states), mask))
        inner = functional.silu(self.wide(self.feed_norm(states)))
        return states + self._drop(self.narrow(self._drop(inner)))

    def _attend(self, states: Tensor, mask: Tensor) -> Tensor:
        batch, steps, width = states.shape
        parts = self.queries(states).view(batch, steps, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask[:, None, None]
        )
        return self.attended(found.transpose(1, 2).reshape(batch, steps, width))  # type: ignore[no-any-return]

    def _convolve(self, states: Tensor, mask: Tensor) -> Tensor:
        gated = functional.glu(self.gate(states), 2) * mask[..., None]
        read = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        return self.mixed(functional.silu(self.inner_norm(read)))  # type: ignore[no-any-return]

    def _drop(self, states: Tensor) -> Tensor:
        return functional.dropout(states, self.dropout, self.training)


class CTCForRecognition(PreTrainedModel):  # type: ignore[misc]
    """Spectrograms to logits of characters."""

    config_class = CTCConfig
    base_model_prefix = "encoder"
    main_input_name = "input_values"

    def __init__(self, config: CTCConfig) -> None:
        super().__init__(config)
        self.stem = Stem(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own initialisation stays."""

    def forward(self, input_values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mels [batch, frames, mels] and frames of each [batch] to logits and their steps.

        Logits are [batch, steps, characters]. Each recording is brought to mean 0 and deviation
        1 in each band, so that microphones and rooms count less.
        """
        values = standardised(input_values, lengths).to(self.head.weight.dtype)
        states, steps = self.stem(values, lengths)
        states = states + positions(states)
        mask = mask_of(steps, states.shape[1])
        for block in self.blocks:
            states = block(states, mask)
        return self.head(self.norm(states)), steps


def standardised(values: Tensor, lengths: Tensor) -> Tensor:
    """Log-mels [batch, frames, mels] of mean 0 and deviation 1 over their own frames; 0 beyond."""
    mask = mask_of(lengths, values.shape[1])[..., None]
    count = lengths.clamp(min=1)[:, None, None]
    centred = (values - (values * mask).sum(1, keepdim=True) / count) * mask
    deviation = ((centred**2).sum(1, keepdim=True) / count).sqrt()
    return centred / (deviation + 0.1)  # bands that hold nothing stay small


def steps_of(lengths: Tensor, stride: int) -> Tensor:
    """What a convolution with odd kernel, half of it padded, makes of lengths."""
    return (lengths - 1) // stride + 1


def positions(states: Tensor) -> Tensor:
    """Sines and cosines (arXiv:1706.03762) for states [batch, steps, width], [steps, width]."""
    steps, width = states.shape[1:]
    rates = torch.exp(torch.arange(0, width, 2, device=states.device) * (-math.log(1e4) / width))
    angles = torch.arange(steps, device=states.device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width].to(states.dtype)
