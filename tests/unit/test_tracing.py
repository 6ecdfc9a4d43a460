"""A network as a recorded graph, where that is the same network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from jobs.domains.recommendation.answering import NextItemAnswers
from jobs.domains.recommendation.networks import SASRec, Shape
from jobs.domains.text.classification_answers import ClassificationAnswers
from jobs.domains.tracing import Forward, traced

EXAMPLES = [(torch.randn(3, 4),), (torch.randn(1, 4),)]


class Network(nn.Module):
    """A layer, called as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)


def recorded(forward: Forward, network: Network) -> bool:
    return isinstance(traced(network, forward, EXAMPLES), torch.jit.ScriptModule)


def test_what_does_the_same_is_recorded() -> None:
    network = Network()
    graph = traced(network, network.layer, EXAMPLES)
    given = torch.randn(7, 4)
    assert isinstance(graph, torch.jit.ScriptModule)
    assert torch.equal(graph(given), network.layer(given))


def test_what_decides_by_its_inputs_is_not() -> None:
    network = Network()

    def by_size(given: Tensor) -> Tensor:
        return network.layer(given) + (len(given) > 2)

    def with_numpy(given: Tensor) -> Tensor:
        return network.layer(given) + float(given.numpy().max())

    assert not recorded(by_size, network)
    assert not recorded(with_numpy, network)


def test_what_cannot_be_recorded_is_not() -> None:
    network = Network()

    def fails(given: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("not here")
        return network.layer(given)  # type: ignore[no-any-return]

    assert not recorded(fails, network)


@pytest.mark.parametrize("context", [3, 64])
def test_a_text_classifier_settles_whatever_its_context(context: int) -> None:
    config = BertConfig(
        vocab_size=50,
        num_hidden_layers=1,
        num_attention_heads=2,
        hidden_size=16,
        intermediate_size=32,
        max_position_embeddings=context,
    )
    network = BertForSequenceClassification(config).eval()
    vocabulary: Any = SimpleNamespace(size=50, padding=0)
    answers = ClassificationAnswers(network, vocabulary, ["a", "b"], context)
    answers.settle()
    assert isinstance(answers._logits, torch.jit.ScriptModule)
    ids, mask = torch.randint(0, 50, (5, context)), torch.ones(5, context, dtype=torch.long)
    mask[1, 1:] = 0
    with torch.inference_mode():
        assert torch.equal(answers._logits(ids, mask), answers._called(ids, mask))


@pytest.mark.parametrize("context", [1, 64])
def test_a_recommender_settles_whatever_its_context(context: int) -> None:
    shape = Shape("sasrec", num_items=4, width=8, context=context, dropout=0.1, layers=1)
    network = SASRec(shape, np.ones(4, np.int64)).eval()
    catalogue: Any = None
    answers = NextItemAnswers(network, catalogue, dict)
    answers.settle()
    assert isinstance(answers._states, torch.jit.ScriptModule)
    items = torch.randint(1, 5, (7, context))
    with torch.inference_mode():
        assert torch.equal(answers._states(items), network.states(items))
