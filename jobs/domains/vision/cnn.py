"""A small residual network for small pictures, quick on CPUs.

After ResNet-9 of D. Page's "How to train your ResNet" (myrtle.ai, 2018): each stage doubles the
channels at full resolution and then halves the sides by a maximum. It is a network of
transformers' kind, so that its folder is one too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

MODEL_TYPE = "slipway-cnn"


class CNNConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of the network, as its config.json holds them."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        num_channels: int = 3,
        width: int = 32,
        stages: int = 3,
        blocks: int = 1,
        dropout: float = 0.0,
        **other: Any,
    ) -> None:
        self.num_channels, self.width, self.stages = num_channels, width, stages
        self.blocks, self.dropout = blocks, dropout
        super().__init__(**other)


class Layer(nn.Sequential):
    """Convolution over 3 x 3 pixels, batch norm and ReLU."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(
            nn.Conv2d(inner, outer, 3, padding=1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(inplace=True),
        )


class Block(nn.Module):
    """Two layers beside a direct way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer(width, width), Layer(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """[batch, width, height, width] to the same."""
        return features + self.layers(features)  # type: ignore[no-any-return]


class CNNEncoder(nn.Module):
    """Stem, stages, and mean and maximum over all places."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        widths = [config.width * 2**i for i in range(config.stages + 1)]
        self.stem = Layer(config.num_channels, config.width)
        self.stages = nn.ModuleList(
            nn.Sequential(
                Layer(inner, outer),
                nn.MaxPool2d(2, ceil_mode=True),
                *(Block(outer) for _ in range(config.blocks)),
            )
            for inner, outer in pairwise(widths)
        )
        self.width = widths[-1]

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, channels, size, size] to features [batch, width]."""
        # CPUs compute convolutions faster with the channels innermost.
        convolution, *rest = self.stem
        features = convolution(pixels).contiguous(memory_format=torch.channels_last)
        for layer in rest:
            features = layer(features)
        for stage in self.stages:
            features = stage(features)
        return features.mean((2, 3)) + features.amax((2, 3))  # type: ignore[no-any-return]


class CNNForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """The encoder and a linear head, called as transformers' classifiers are."""

    config_class = CNNConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"

    def __init__(self, config: CNNConfig) -> None:
        super().__init__(config)
        self.encoder = CNNEncoder(config)
        self.classifier = nn.Linear(self.encoder.width, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own initialisation; a fresh head on loaded weights needs it once more."""
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutputWithNoAttention:
        """Logits [batch, classes] of pixels [batch, channels, size, size]."""
        features = self.encoder(pixel_values)
        features = functional.dropout(features, self.config.dropout, self.training)
        return ImageClassifierOutputWithNoAttention(logits=self.classifier(features))
