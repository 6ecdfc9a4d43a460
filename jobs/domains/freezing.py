"""Layers of a pretrained network that training leaves as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze(
    network: nn.Module, depth: int | Literal["backbone"], fresh: Collection[str] = ()
) -> None:
    """Take layers of a transformers network out of training, in place.

    `depth` N freezes the embeddings and the lowest N blocks (of a ResNet: stages), "backbone" all
    but the head, 0 nothing. Parameters named in `fresh` were not trained before and stay in
    training. Batch norms that are frozen keep their statistics too. ValueError for more blocks
    than there are, and where nothing is left to train.
    """
    if depth == 0:
        return
    backbone: nn.Module = getattr(network, "base_model", network)
    names = {id(p): name for name, p in network.named_parameters()}
    for part in _frozen(network, backbone, depth):
        for module in part.modules():
            own = list(module.parameters(recurse=False))
            for parameter in own:
                parameter.requires_grad = names.get(id(parameter)) in fresh
            if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in own):
                _stay_in_evaluation(module)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(f"network.freeze: {depth} leaves nothing to train; freeze fewer blocks")


def _frozen(
    network: nn.Module, backbone: nn.Module, depth: int | Literal["backbone"]
) -> Iterator[nn.Module]:
    """The modules that are frozen whole."""
    if depth == "backbone":
        if backbone is network:
            raise ValueError("network.freeze: this network has no head apart; give a number")
        yield backbone
        return
    path = _blocks_of(backbone)
    blocks: Any = backbone.get_submodule(path)
    if depth > len(blocks):
        raise ValueError(f"network.freeze: {depth}, but the network has {len(blocks)} blocks")
    yield from _before(backbone, path)
    yield from blocks[:depth]


def _blocks_of(backbone: nn.Module) -> str:
    """Where the blocks are: the outermost list of modules."""
    parts = dict(backbone.named_modules())
    lists: list[str] = [name for name, part in parts.items() if isinstance(part, nn.ModuleList)]
    if not lists:
        raise ValueError('network.freeze: this network has no blocks to count; use "backbone"')
    # networks for sound have convolutions in a list of their own, before the encoder's blocks
    return min(lists, key=lambda name: (name.count("."), not name.startswith("encoder")))


def _before(backbone: nn.Module, path: str) -> Iterator[nn.Module]:
    """What the input passes on its way to the blocks, on every level down to them."""
    module = backbone
    for step in path.split("."):
        for name, child in module.named_children():
            if name == step:
                break
            yield child
        module = module.get_submodule(step)


def _stay_in_evaluation(module: nn.Module) -> None:
    module.eval()
    module.train = lambda mode=True: module  # type: ignore[method-assign]
