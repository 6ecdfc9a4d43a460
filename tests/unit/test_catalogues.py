"""What a plan computes for recommenders is what is built, at any size of the catalogue."""

from typing import Any

import numpy as np
import pytest
import torch

from cluster.catalogues import recommender_shape
from cluster.memory import estimate
from cluster.spec import parse_model
from jobs.domains.recommendation.factors import FactorShape, MatrixFactorisation
from jobs.domains.recommendation.networks import SASRec, shape_of
from jobs.domains.recommendation.towers import TwoTower

SIZES = {"users": 9, "items": 30, "trained_users": 8, "trained_items": 20}


def model_of(task: str, **network: Any) -> Any:
    data = {"source": "ratings.csv", "tokenizer": {"size": 300}}
    return parse_model({"domain": "recommendation", "task": task, "data": data, "network": network})


@pytest.mark.parametrize("kind", ["sasrec", "two-tower", "matrix-factorisation"])
def test_parameters_are_counted_exactly(kind: str) -> None:
    task = "rating" if kind == "matrix-factorisation" else "next-item"
    model = model_of(task, type=kind, width=12)
    network = model.network
    if task == "rating":
        built: Any = MatrixFactorisation(
            FactorShape(8, 20, 12, 0.0, network.recent, network.damping, 3.0, 100)
        )
    else:
        shape = shape_of(network, 30, 20, 300)
        counts = np.ones(30, np.int64)
        features = np.zeros((30, 4), np.int32)
        built = SASRec(shape, counts) if kind == "sasrec" else TwoTower(shape, counts, features)
    planned = recommender_shape(model, SIZES, 4)
    assert planned is not None
    assert planned.parameters == sum(p.numel() for p in built.parameters())


def test_a_million_items_fit_and_train_in_little_memory() -> None:
    model = model_of("next-item", type="sasrec", width=8, context=20)
    sizes = dict.fromkeys(SIZES, 1_000_000)
    planned = recommender_shape(model, sizes, 32)
    assert planned is not None
    # 32 x 20 x 1,000,000 logits would be 2.4 GiB in fp32, and as much again for their gradient
    assert estimate(planned, 0, 1, "fp32").activations < 150 << 20
    shape = shape_of(model.network, 1_000_000, 1_000_000, 0)
    network = SASRec(shape, np.ones(1_000_000, np.int64))
    items = torch.randint(1, 1_000_001, (32, 20))
    loss: Any = network(items, items.roll(-1, 1), torch.full((32,), 20))
    loss.backward()
    gradient = network.items.weight.grad
    assert gradient is not None
    assert torch.isfinite(loss)
    assert gradient.abs().sum() > 0
