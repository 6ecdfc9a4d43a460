"""Networks for pictures: built from the spec, loaded from folders."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from jobs.domains.freezing import freeze
from jobs.domains.text.networks import from_pretrained
from jobs.domains.vision.cnn import MODEL_TYPE, CNNConfig, CNNForImageClassification
from jobs.domains.vision.pictures import Pictures
from jobs.domains.vision.pretrained import source_of

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


def build(
    model: ModelSpec, pictures: Pictures, labels: Sequence[str], pretrained: Path | None
) -> nn.Module:
    """A ResNet or a CNN in fp32 as the spec says, or a pretrained network.

    The latter's head is a fresh one unless it has as many classes; what the spec freezes is frozen.
    """
    network: Any = model.network
    source = source_of(network, pretrained)
    names: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    if source is not None:
        loaded, fresh = load_network(source, torch.float32, num_labels=len(labels), **names)
        freeze(loaded, network.freeze, fresh)
        return loaded
    built: nn.Module
    if network.type == "resnet":
        built = ResNetForImageClassification(_resnet(network, pictures, **names))
    else:
        config = CNNConfig(
            num_channels=pictures.channels,
            width=network.width,
            stages=network.stages,
            blocks=network.blocks,
            dropout=network.dropout,
            **names,
        )
        built = CNNForImageClassification(config)
    return built


def load_network(
    source: str, dtype: torch.dtype | str = "auto", **config: Any
) -> tuple[nn.Module, Collection[str]]:
    """A network of a folder or hub name, and the names of parameters that it did not hold.

    Raises ValueError where there are no weights or only pickled ones, which can run code.
    """
    kind = CNNForImageClassification if _is_ours(source) else AutoModelForImageClassification
    return from_pretrained(kind, source, dtype, ignore_mismatched_sizes=True, **config)


def logits_of(network: nn.Module, pixels: Tensor, pictures: Pictures) -> Tensor:
    """[batch, classes] in fp32, from normalised pixels [batch, channels, size, size].

    Enlarging small pictures lets a plain ResNet, whose stem takes a quarter of each side, see
    them at their own resolution.
    """
    given: Any = next(network.parameters())
    pixels = pixels.to(given.dtype)
    if pictures.enlarge > 1:
        pixels = nn.functional.interpolate(pixels, scale_factor=pictures.enlarge, mode="nearest")
    logits: Tensor = network(pixel_values=pixels).logits
    return logits.float()


def _resnet(network: Any, pictures: Pictures, **names: Any) -> ResNetConfig:
    return ResNetConfig(
        num_channels=pictures.channels,
        embedding_size=network.width,
        hidden_sizes=[network.width * 2**i for i in range(network.stages)],
        depths=[network.blocks] * network.stages,
        layer_type="basic",
        **names,
    )


def _is_ours(source: str) -> bool:
    """Whether a folder holds our own CNN, which transformers' Auto classes do not know."""
    path = Path(source, "config.json")
    try:
        return bool(json.loads(path.read_text("utf-8")).get("model_type") == MODEL_TYPE)
    except (OSError, ValueError):
        return False
