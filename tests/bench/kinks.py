"""Networks with kinks, and what they do to curves that differ in their last bits.

Where a ReLU's input lies within one last bit of 0, or two inputs of a maximum do, runs that agree
in all but that bit take different ways: the gradient jumps. Batch norms over few pictures carry a
jump on until curves differ in the second decimal, whatever trains the network. So ZeRO's stages are
compared where every function is smooth, and what a single last bit does is measured beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn

from cluster.spec import Spec
from jobs.domains.vision.classification import Classification
from tests.trainings import Case, train_cases

SMOOTH, NUDGES = "-smooth", (7, 19, 33)
"""Marks of runs: a smooth network; weights of the first layer that are changed by one last bit."""


def train_apart(spec: Spec, data: str, stages: Sequence[int]) -> None:
    """Train at every stage smooth and as it is, and at the first stage with each nudge."""
    with _changed(smooth):
        train_cases(spec, data, [Case(stage, mark=SMOOTH) for stage in stages])
    train_cases(spec, data, [Case(stage) for stage in stages])
    for place in NUDGES:
        with _changed(lambda network, place=place: nudge(network, place)):
            train_cases(spec, data, [Case(stages[0], mark=f"-{place}")])


def smooth(network: nn.Module) -> None:
    """Put GELU in place of every ReLU, and means in place of maxima."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.GELU())
            elif isinstance(child, nn.MaxPool2d):
                mean = nn.AvgPool2d(child.kernel_size, child.stride, child.padding)
                setattr(module, name, mean)


def nudge(network: nn.Module, place: int) -> None:
    """Change one weight of the first layer by its last bit."""
    weight = next(p for p in network.parameters() if p.dim() >= 2)
    with torch.no_grad():
        flat = weight.view(-1)
        flat[place] = torch.nextafter(flat[place], torch.tensor(float("inf")))


@contextmanager
def _changed(change: Callable[[nn.Module], None]) -> Iterator[None]:
    """In this block, fresh networks for pictures are changed before they are trained."""
    build = Classification.network

    def network(self: Any) -> nn.Module:
        built = build(self)
        change(built)
        return built

    with mock.patch.object(Classification, "network", network):
        yield
