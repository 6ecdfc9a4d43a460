"""Networks as recorded graphs, which run without the interpreter: other threads have it meanwhile.

A service reads and writes HTTP in one thread and computes in another. Called from Python, a
network asks for the interpreter's lock again after each operation, a hundred times a pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[..., Tensor]


class _Module(nn.Module):
    """The network and how it is called: what is recorded needs to own its weights."""

    def __init__(self, network: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.network, self.call = network, forward

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(*inputs)


@torch.inference_mode()
def traced(network: nn.Module, forward: Forward, examples: Sequence[tuple[Tensor, ...]]) -> Forward:
    """``forward`` as a graph that was recorded on the first example (torch.jit.trace).

    ``forward`` itself where the graph gives anything else on any example, or there is none: it
    cannot follow decisions that Python takes by the inputs. Examples should differ in all sizes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record: Any = torch.jit.trace
            graph = record(_Module(network, forward), examples[0], check_trace=False)
        # Its executor optimises while it is run for the first times.
        alike = all(
            torch.equal(graph(*example), forward(*example))
            for _ in range(3)
            for example in examples
        )
    except RuntimeError:
        return forward
    return graph if alike else forward
