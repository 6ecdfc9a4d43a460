"""Bytes that a DeepSpeed engine holds on this worker, by what they are for.

Every tensor reachable from the parameters, their gradients and the optimizer is found by walking
objects, and each storage is counted once, under the first kind that claims it: parameters, then
gradients, then the optimizer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jobs.engine import Engine

KINDS = ("parameters", "gradients", "optimizer")
# Parts of the names under which DeepSpeed's optimizers keep gradients, and the bucket that
# gradients travel in, which is theirs too: for a moment it holds the only copy.
GRADIENTS = ("grad", "ipg_bucket")
Claim = tuple[str, int, str]


@dataclass(frozen=True)
class Census:
    """Bytes of distinct storages: their sum by kind, and each with its kind and name."""

    num_bytes: dict[str, int]
    storages: tuple[Claim, ...]


def take_census(engine: Engine) -> Census:
    """Count what the engine holds now, each storage once."""
    claims: dict[int, Claim] = {}
    module, optimizer = engine.engine.module, engine.engine.optimizer
    for kind, name, tensor in [*_of_parameters(module), *_of_optimizer(optimizer)]:
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr():
            known = claims.get(storage.data_ptr())
            if known is None or KINDS.index(kind) < KINDS.index(known[0]):
                claims[storage.data_ptr()] = (kind, storage.nbytes(), name)
    sums = {k: sum(size for kind, size, _ in claims.values() if kind == k) for k in KINDS}
    return Census(sums, tuple(sorted(claims.values(), key=lambda claim: -claim[1])))


class Peaks:
    """The largest sum of each kind, looked at after every parameter's gradient of a backward."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.num_bytes = dict.fromkeys(KINDS, 0)
        for parameter in engine.engine.module.parameters():
            parameter.register_post_accumulate_grad_hook(lambda _: self.look())

    def look(self) -> None:
        """Take what the engine holds now into account."""
        now = take_census(self.engine).num_bytes
        self.num_bytes = {kind: max(self.num_bytes[kind], now[kind]) for kind in KINDS}


def _of_parameters(module: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    for name, parameter in module.named_parameters():
        yield "parameters", name, parameter.data
        shard = getattr(parameter, "ds_tensor", None)
        if shard is not None:
            yield "parameters", f"{name}.ds_tensor", shard
        if parameter.grad is not None:
            yield "gradients", f"{name}.grad", parameter.grad


def _of_optimizer(optimizer: Any) -> Iterator[tuple[str, str, Tensor]]:
    """Walk attributes, containers and the inner optimizer; not into modules or the engine."""
    seen: set[int] = set()
    waiting: deque[tuple[str, Any]] = deque([("optimizer", optimizer)])
    while waiting:
        path, value = waiting.popleft()
        if id(value) in seen or isinstance(value, nn.Module | torch.dtype | str | type):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield _kind(path), path, value
            if value.grad is not None:
                yield "gradients", f"{path}.grad", value.grad
        elif isinstance(value, dict):
            waiting.extend((f"{path}.{_name(key)}", item) for key, item in value.items())
        elif isinstance(value, list | tuple | set | deque):
            waiting.extend((f"{path}[{i}]", item) for i, item in enumerate(value))
        elif type(value).__module__.startswith(("deepspeed.runtime.zero", "torch.optim")) or (
            value is optimizer or type(value).__module__.startswith("deepspeed.runtime.bf16")
        ):
            waiting.extend((f"{path}.{name}", item) for name, item in vars(value).items())


def _name(key: Any) -> str:
    return "#" if isinstance(key, Tensor) else str(key)


def _kind(path: str) -> str:
    return "gradients" if any(name in path for name in GRADIENTS) else "optimizer"
