"""Fragments in files: written by some workers, read by any other number of them."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cluster.storage import DamagedError
from jobs.fragments import Fragment
from jobs.state_files import (
    covers,
    rank_file,
    read_buffers,
    read_fragments,
    spans_in,
    write_buffers,
    write_fragments,
)

NUMEL = 23
KEYS = ("weight", "exp_avg")


def state() -> dict[str, Tensor]:
    return {key: torch.arange(NUMEL) + 100.0 * place for place, key in enumerate(KEYS)}


def fragment(tensors: dict[str, Tensor], start: int, stop: int, replicated: bool) -> Fragment:
    def write(key: str, values: Tensor) -> None:
        tensors[key][start:stop] = values

    return Fragment(
        "layer.weight", start, stop, KEYS, lambda key: tensors[key][start:stop], write, replicated
    )


def spread(tensors: dict[str, Tensor], workers: int, replicated: bool) -> list[Fragment]:
    """What each of so many workers holds; with more workers than values, some hold nothing."""
    if replicated:
        return [fragment(tensors, 0, NUMEL, True) for _ in range(workers)]
    size = -(-NUMEL // workers)
    edges = [min(NUMEL, rank * size) for rank in range(workers + 1)]
    return [fragment(tensors, a, b, False) for a, b in itertools.pairwise(edges)]


def written(folder: Path, workers: int, replicated: bool = False) -> list[Path]:
    files = []
    for rank, held in enumerate(spread(state(), workers, replicated)):
        files.append(folder / rank_file(rank))
        write_fragments(files[-1], [held], rank, workers)
    return files


@pytest.mark.parametrize(("before", "replicated"), [(1, False), (2, False), (4, True), (30, True)])
@pytest.mark.parametrize("after", [1, 3, 4])
def test_any_number_reads_what_any_number_wrote(
    tmp_path: Path, before: int, replicated: bool, after: int
) -> None:
    files = written(tmp_path, before, replicated)
    found = {key: torch.zeros(NUMEL) for key in KEYS}
    for held in spread(found, after, replicated=False):
        read_fragments(files, [held])
    for key, tensor in state().items():
        assert torch.equal(found[key], tensor)


def test_no_value_is_written_twice(tmp_path: Path) -> None:
    spans = [spans_in(file) for file in written(tmp_path, 4, replicated=True)]
    assert sum(b - a for held in spans for a, b in held.values()) == NUMEL


def test_whether_one_file_is_enough(tmp_path: Path) -> None:
    files = written(tmp_path, 2)
    mine, others = spread(state(), 2, replicated=False)
    assert covers(files[0], [mine])
    assert not covers(files[0], [others])
    assert not covers(files[0], spread(state(), 1, replicated=False))


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    files = written(tmp_path, 2)
    with pytest.raises(DamagedError, match=r"holds 12 of 23 values of layer\.weight \(weight\)"):
        read_fragments(files[:1], spread(state(), 1, replicated=False))


def test_buffers(tmp_path: Path) -> None:
    norm, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    norm.running_mean += 5
    norm.num_batches_tracked += 7
    write_buffers(tmp_path / "buffers", norm)
    read_buffers(tmp_path / "buffers", other)
    assert torch.equal(other.running_mean, norm.running_mean)
    assert int(other.num_batches_tracked) == 7
    write_buffers(tmp_path / "none", nn.Linear(2, 2))
    assert not (tmp_path / "none").exists()
