from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    ResNetConfig,
)

from jobs.domains.freezing import freeze

torch.set_num_threads(1)


@pytest.fixture
def bert() -> Any:
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=8, num_labels=2,
    )  # fmt: skip
    return AutoModelForSequenceClassification.from_config(config)


def trained(network: Any) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_the_lowest_blocks(bert: Any) -> None:
    freeze(bert, 2)
    prefixes = ("bert.encoder.layer.2.", "bert.pooler.", "classifier.")
    assert trained(bert) == {n for n, _ in bert.named_parameters() if n.startswith(prefixes)}


def test_all_but_the_head_and_what_is_fresh(bert: Any) -> None:
    freeze(bert, "backbone", {"bert.pooler.dense.weight"})
    assert trained(bert) == {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight"}


def test_what_cannot_be_frozen(bert: Any) -> None:
    with pytest.raises(ValueError, match="4, but the network has 3 blocks"):
        freeze(bert, 4)
    freeze(bert, 0)
    assert len(trained(bert)) == len(list(bert.parameters()))
    with pytest.raises(ValueError, match="has no head apart"):
        freeze(bert.base_model, "backbone")


def test_frozen_norms_keep_their_statistics() -> None:
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=2)
    network: Any = AutoModelForImageClassification.from_config(config)
    freeze(network, 1)
    assert not any(
        n.startswith(("resnet.embedder", "resnet.encoder.stages.0")) for n in trained(network)
    )
    before = {name: b.clone() for name, b in network.named_buffers()}
    network.train()
    network(torch.randn(2, 3, 32, 32))
    changed = {n for n, b in network.named_buffers() if not torch.equal(b, before[n])}
    assert changed
    assert all(name.startswith("resnet.encoder.stages.1") for name in changed)
