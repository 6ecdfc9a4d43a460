"""Attention that knows where it was (arXiv:1506.07503), as Tacotron 2 has it; how it reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LOCATION_FILTERS, LOCATION_KERNEL = 32, 31
LOWEST = -1e4  # below every energy, also in 16 bits


class LocationSensitiveAttention(nn.Module):
    """Additive attention over characters, from a query and from where it looked so far."""

    def __init__(self, query: int, memory: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query, size, bias=False)
        self.memory = nn.Linear(memory, size, bias=False)
        self.places = nn.Conv1d(
            2, LOCATION_FILTERS, LOCATION_KERNEL, padding=LOCATION_KERNEL // 2, bias=False
        )
        self.location = nn.Linear(LOCATION_FILTERS, size, bias=False)
        self.energy = nn.Linear(size, 1)

    def prepare(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What is the same at every step: keys [batch, characters, size] of the memory, and the
        convolution and its projection as one matrix [2 * kernel, size], which is a third faster.
        """
        kernel = self.location.weight @ self.places.weight.flatten(1)
        return self.memory(memory), kernel.T

    def forward(
        self,
        query: Tensor,
        prepared: tuple[Tensor, Tensor],
        memory: Tensor,
        seen: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What is looked at [batch, memory], and its weights [batch, characters].

        `seen` [batch, 2, characters] holds the last weights and the sum of all so far; `mask` is
        True for characters.
        """
        keys, kernel = prepared
        margin = LOCATION_KERNEL // 2
        windows = functional.pad(seen, (margin, margin)).unfold(2, LOCATION_KERNEL, 1)
        places = windows.transpose(1, 2).flatten(2) @ kernel
        energies = self.energy(torch.tanh(self.query(query)[:, None] + keys + places))[..., 0]
        weights = torch.softmax(energies.masked_fill(~mask, LOWEST).float(), 1).to(memory.dtype)
        weights = weights * mask  # exactly 0 beyond, so that padding never counts
        return (weights[:, None] @ memory)[:, 0], weights


def diagonal_distance(characters: Tensor, steps: Tensor, shape: tuple[int, int]) -> Tensor:
    """How far each place is from the diagonal, 0 to 1 [batch, steps, characters].

    Guided attention (arXiv:1710.08969, section 4.1) with its width of 0.2.
    """
    rows = torch.arange(shape[0], device=steps.device)[None, :, None] / steps[:, None, None]
    columns = torch.arange(shape[1], device=steps.device)[None, None] / characters[:, None, None]
    return 1 - torch.exp(-((rows - columns) ** 2) / (2 * 0.2**2))


def alignment_of(weights: Tensor, characters: int) -> float:
    """How a sentence was read, 0 to 1, from attention [steps, characters].

    The share of steps after which attention stays or moves ahead by at most `LEAP` characters,
    times the share of characters that it passed: 1 is one pass from the first to the last.
    """
    if len(weights) == 0:
        return 0.0
    path = weights[:, :characters].argmax(1)
    moves = path[1:] - path[:-1]
    orderly = ((moves >= 0) & (moves <= LEAP)).float().mean() if len(moves) else 1.0
    covered = torch.zeros(characters)
    for place in path.tolist():
        covered[max(0, place - LEAP + 1) : place + 1] = 1
    return float(orderly * covered.mean())


LEAP = 4
"""Some letters are not heard, and a step may speak several: leaps of so many are reading on."""
DIAGONAL = 0.8
"""A sentence of at least this alignment, and ended by itself, was read in order."""
