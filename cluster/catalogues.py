"""How large recommenders are: most of their parameters are vectors of users and items.

`sizes` is what preparing has counted: {"users", "items", "trained_users", "trained_items"}.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.memory import Shape
from cluster.spec import ModelSpec
from cluster.spec.networks import MatrixFactorisation, SASRec, TwoTower

MOST_LOGITS = 1 << 22
"""Of jobs/domains/recommendation/entropy.py: logits are computed in chunks of so many."""
DECAYED_MEANS = 4
"""What a two-tower network knows of a history, in vectors."""


def is_recommender(model: ModelSpec) -> bool:
    return isinstance(model.network, SASRec | TwoTower | MatrixFactorisation)


def recommender_shape(model: ModelSpec, sizes: Mapping[str, int], micro: int) -> Shape | None:
    """What memory depends on; None for other networks."""
    network = model.network
    if isinstance(network, MatrixFactorisation):
        parameters = factor_parameters(network, sizes)
        return Shape(parameters, 1, network.width, 1, network.recent, 0, micro)
    tokens = micro * getattr(network, "context", 0)
    if isinstance(network, SASRec):
        parameters, items = sasrec_parameters(network, sizes), sizes["trained_items"]
        layers, heads = network.layers, network.heads
    elif isinstance(network, TwoTower):
        most = model.data.tokenizer.size
        parameters, items = tower_parameters(network, sizes, most), sizes["items"]
        layers, heads = 1, 1
    else:
        return None
    logits = min(items, -(-MOST_LOGITS // tokens))
    return Shape(parameters, layers, network.width, heads, network.context, logits, tokens)


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
    towers = [
        inner * 2 * width + 2 * width + 2 * width * width + width + 2 * width
        for inner in (width, DECAYED_MEANS * width)
    ]
    return tables + sum(towers)
