"""A network as a recorded graph, where that is the same network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
