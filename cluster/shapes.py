"""What memory and time of a model's training depend on, from the spec and what storage has counted.

`sizes` is what the spec does not tell: of a recommender's catalogue (`cluster.catalogues`), or of
a network that was trained elsewhere: {"parameters", "layers", "width", "heads", "vocabulary"}; of
recordings {"milliseconds"}, what one takes with what it is padded to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.catalogues import is_recommender, recommender_shape
from cluster.convolutions import picture_flops, picture_parameters, picture_values
from cluster.memory import Counted, Shape
from cluster.parameters import GPT2_KEPT, attention_flops, logits_per_token, text_shape
from cluster.sounds import ctc_shape, tacotron_shape
from cluster.spec import ModelSpec, Pretrained
from cluster.spec.networks import CNN, CTC, ResNet, Tacotron2

MOST_AUTO = 32
"""Records of a micro-batch that ``auto`` takes at most."""
CONTEXT = 512
"""Assumed of a network that was trained elsewhere and whose spec names none."""


def network_shape(
    model: ModelSpec, workers: int, sizes: Mapping[str, int] | None = None
) -> Shape | Counted | None:
    """The shape of a model's training; None where neither spec nor storage tells its size."""
    network: Any = model.network
    micro = micro_batch(model, workers)
    if isinstance(network, ResNet | CNN):
        values = micro * picture_values(network)
        return Counted(picture_parameters(network), values, picture_flops(network))
    if isinstance(network, CTC):
        return ctc_shape(network, micro, sizes)
    if isinstance(network, Tacotron2):
        return tacotron_shape(network, micro, sizes)
    if is_recommender(model):
        return recommender_shape(model, sizes, micro) if sizes else None
    if isinstance(network, Pretrained):
        return _pretrained_shape(model, network, micro, sizes) if sizes else None
    tokenizer = model.data.tokenizer
    return text_shape(model, 256 if tokenizer.type == "character" else tokenizer.size, micro)


def micro_batch(model: ModelSpec, workers: int) -> int:
    """Records that a worker computes at once; the largest even share of what `auto` may take."""
    share = max(1, model.train.global_batch // workers)
    if model.train.micro_batch != "auto":
        return int(model.train.micro_batch)
    return max(size for size in range(1, min(share, MOST_AUTO) + 1) if share % size == 0)


def _pretrained_shape(
    model: ModelSpec, network: Pretrained, micro: int, sizes: Mapping[str, int]
) -> Shape:
    """Of a transformer by its own configuration; all of its parameters are multiplied."""
    layers, width = sizes.get("layers", 1), sizes.get("width", 1)
    context = network.context or min(sizes.get("context", CONTEXT), CONTEXT)
    logits = logits_per_token(model, sizes.get("vocabulary", 0))
    tables = sizes.get("vocabulary", 0) * width
    multiplied = max(0, sizes["parameters"] - tables) + logits * width
    flops = 6.0 * multiplied * context + attention_flops(layers, width, context)
    heads = sizes.get("heads", 1)
    tokens = micro * context
    return Shape(
        sizes["parameters"], layers, width, heads, context, logits, tokens, flops, kept=GPT2_KEPT
    )
