"""The files of a checkpoint: each worker's fragments, read back by whoever needs a part of them.

``rank-00003.safetensors`` has the fragments of a worker, as ``KEY/NAME`` with the spans in its
header; ``buffers.safetensors`` what layers count besides their parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cluster.storage import DamagedError
from jobs.fragments import Fragment

BUFFERS = "buffers.safetensors"
Span = tuple[int, int]


def rank_file(rank: int) -> str:
    """Name of a worker's file."""
    return f"rank-{rank:05d}.safetensors"


def write_fragments(file: Path, fragments: Iterable[Fragment], rank: int, world_size: int) -> None:
    """Write a worker's fragments; of what all hold, each worker writes its share."""
    tensors: dict[str, Tensor] = {}
    spans: dict[str, Span] = {}
    for fragment in fragments:
        start, stop = fragment.start, fragment.stop
        if fragment.replicated:
            share = -(-(stop - start) // world_size)
            start, stop = min(stop, start + rank * share), min(stop, start + (rank + 1) * share)
        if start == stop:
            continue
        spans[fragment.name] = (start, stop)
        for key in fragment.keys:
            part = fragment.read(key)[start - fragment.start : stop - fragment.start]
            tensors[f"{key}/{fragment.name}"] = part.detach().to("cpu", copy=True)
    save_file(tensors, file, {"spans": json.dumps(spans)})


def spans_in(file: Path) -> dict[str, Span]:
    """Which span of each parameter a worker's file holds."""
    with _opened(file) as opened:
        return _spans(opened)


def covers(file: Path, fragments: Iterable[Fragment]) -> bool:
    """Whether one file holds all that these fragments need."""
    held = spans_in(file)
    return all(
        f.name in held and held[f.name][0] <= f.start and f.stop <= held[f.name][1]
        for f in fragments
    )


def read_fragments(files: Sequence[Path], fragments: Iterable[Fragment]) -> None:
    """Fill the fragments from the files, whoever wrote which span.

    Raises DamagedError where they hold not all of a fragment.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(file)) for file in files]
        held = [(source, _spans(source)) for source in opened]
        for fragment in fragments:
            for key in fragment.keys:
                fragment.write(key, _assembled(fragment, key, held, files[0].parent))


def _assembled(fragment: Fragment, key: str, held: list[Any], folder: Path) -> Tensor:
    values = torch.empty(fragment.stop - fragment.start, dtype=torch.float32)
    found = 0
    for source, spans in held:
        start, stop = spans.get(fragment.name, (0, 0))
        low, high = max(start, fragment.start), min(stop, fragment.stop)
        if low < high:
            part = source.get_slice(f"{key}/{fragment.name}")[low - start : high - start]
            values[low - fragment.start : high - fragment.start] = part
            found += high - low
    if found != len(values):
        raise DamagedError(
            f"{folder} holds {found} of {len(values)} values of {fragment.name} ({key})"
        )
    return values


def _opened(file: Path) -> Any:
    return safe_open(file, framework="pt")


def _spans(opened: Any) -> dict[str, Span]:
    return {name: (a, b) for name, (a, b) in json.loads(opened.metadata()["spans"]).items()}


def write_buffers(file: Path, network: nn.Module) -> None:
    """Write the buffers that belong to the network's state; no file where it has none."""
    buffers = {name: b.detach().cpu().contiguous() for name, b in _buffers(network)}
    if buffers:
        save_file({name: tensor.clone() for name, tensor in buffers.items()}, file)


def read_buffers(file: Path, network: nn.Module) -> None:
    """Put back what :func:`write_buffers` wrote."""
    saved = load_file(file)
    for name, buffer in _buffers(network):
        if name not in saved:
            raise DamagedError(f"{file} does not hold {name}")
        buffer.data.copy_(saved[name])


def _buffers(network: nn.Module) -> list[tuple[str, Tensor]]:
    persistent = set(network.state_dict().keys())
    return [(name, b) for name, b in network.named_buffers() if name in persistent]
