"""How large recommenders are: most of their parameters are vectors of users and items.

`sizes` is what preparing has counted: {"users", "items", "trained_users", "trained_items"}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cluster.memory import Shape
from cluster.parameters import BERT_KEPT, attention_flops
from cluster.spec import ModelSpec
from cluster.spec.networks import MatrixFactorisation, SASRec, TwoTower

MOST_LOGITS = 1 << 22
"""Of jobs/domains/recommendation/entropy.py: logits are computed in chunks of so many."""
ALL_ITEMS, SAMPLES = 65_536, 8_192
"""Of the loss: every item of so many, else so many drawn from them."""
DECAYED_MEANS = 4
"""What a two-tower network knows of a history, in vectors."""


def is_recommender(model: ModelSpec) -> bool:
    return isinstance(model.network, SASRec | TwoTower | MatrixFactorisation)


def recommender_shape(model: ModelSpec, sizes: Mapping[str, int], micro: int) -> Shape | None:
    """What memory depends on; None for other networks."""
    network = model.network
    if isinstance(network, MatrixFactorisation):
        parameters, flops = factor_parameters(network, sizes), 6.0 * network.width
        return Shape(parameters, 1, network.width, 1, network.recent, 0, micro, flops)
    if isinstance(network, SASRec):
        parameters, items = sasrec_parameters(network, sizes), sizes["trained_items"]
        layers, heads, width = network.layers, network.heads, network.width
        multiplied, whole = 12 * layers * width * width, attention_flops(layers, width, 1)
    elif isinstance(network, TwoTower):
        most = model.data.tokenizer.size
        parameters, items = tower_parameters(network, sizes, most), sizes["items"]
        layers, heads, width = 1, 1, network.width
        multiplied, whole = _tower(network, DECAYED_MEANS * width), 0.0
    else:
        return None
    tokens = micro * network.context
    logits = min(items, -(-MOST_LOGITS // tokens))
    compared = items if items <= ALL_ITEMS else SAMPLES
    compared = min(items, network.samples or compared)
    flops = 6.0 * (multiplied + compared * width) * network.context + whole * network.context**2
    shape = Shape(parameters, layers, width, heads, network.context, logits, tokens, flops)
    drops = isinstance(network, SASRec) and network.dropout > 0
    return replace(shape, kept=BERT_KEPT, dropout=drops)


def factor_parameters(network: MatrixFactorisation, sizes: Mapping[str, int]) -> int:
    """Factors and biases of users and items, and number 0 of both; weights of recent ratings."""
    rows = sizes["trained_users"] + sizes["trained_items"] + 2
    return rows * (network.width + 1) + network.recent + 1


def sasrec_parameters(network: SASRec, sizes: Mapping[str, int]) -> int:
    """Vectors and offsets of items, places, and the blocks."""
    width = network.width
    block = 12 * width * width + 13 * width
    items = (sizes["trained_items"] + 1) * (width + 1)
    return items + network.context * width + network.layers * block + 2 * width


def tower_parameters(network: TwoTower, sizes: Mapping[str, int], num_features: int) -> int:
    """Vectors and offsets of items, those of their content, and both towers."""
    width = network.width
    tables = (sizes["trained_items"] + 1) * (width + 1) + (num_features + 1) * width
    return tables + sum(_tower(network, inner) for inner in (width, DECAYED_MEANS * width))


def _tower(network: TwoTower, inner: int) -> int:
    width = network.width
    return inner * 2 * width + 2 * width + 2 * width * width + width + 2 * width
