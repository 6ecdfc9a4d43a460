"""Networks for pictures are counted as they are built."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.convolutions import picture_parameters, picture_values
from cluster.plan import memory_plan
from cluster.spec import load
from cluster.spec.networks import CNN, ResNet
from jobs.domains.vision.networks import build
from jobs.domains.vision.pictures import Pictures


@pytest.mark.parametrize(
    "network",
    [
        ResNet(type="resnet", width=4),
        ResNet(type="resnet", width=8, stages=4, blocks=1),
        CNN(type="cnn", width=4),
        CNN(type="cnn", width=8, stages=2, blocks=2),
        CNN(type="cnn", width=8, stages=1, blocks=1),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_parameters_are_counted_exactly(network: Any, channels: int) -> None:
    pictures = Pictures(16, channels, (0.5,) * channels, (0.5,) * channels)
    labels = [str(i) for i in range(7)]
    built = build(SimpleNamespace(network=network), pictures, labels, None)  # type: ignore[arg-type]
    assert picture_parameters(network, channels, 7) == sum(p.numel() for p in built.parameters())


def test_a_plan_tells_the_memory_of_a_network_for_pictures(tmp_path: Path) -> None:
    model = {"domain": "vision", "task": "classification", "data": "builtin:digits"}
    network = {"type": "cnn", "width": 16, "size": 32}
    document = {"name": "x", "models": {"m": model | {"network": network}}}
    (tmp_path / "cluster.yaml").write_text(json.dumps(document))
    spec = load(tmp_path / "cluster.yaml")
    plan = memory_plan(spec, "m")
    assert plan is not None
    assert plan.parameters == picture_parameters(CNN(**network))
    assert plan.estimates[0].optimizer == 8 * plan.parameters
    assert 2**20 < plan.estimates[0].activations < 2**30


def test_activations_grow_with_the_picture() -> None:
    for kind, name in ((ResNet, "resnet"), (CNN, "cnn")):
        small: Any = kind(type=name, size=32, width=8)
        large: Any = kind(type=name, size=64, width=8)
        assert picture_values(small) <= picture_values(large)
        assert picture_values(small) > 32 * 32 * 8
