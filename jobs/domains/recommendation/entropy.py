"""Cross entropy over many items without their logits: computed in chunks, never all at once.

As in Liger's fused linear cross entropy (arXiv 2410.10989), gradients are computed with the loss,
so that backward needs neither logits nor, at ZeRO stage 3, the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOST_LOGITS = 1 << 22
"""Logits in memory at once: 16 MiB in fp32."""


class _ChunkedEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, vectors: Tensor, offsets: Tensor, targets: Tensor
    ) -> Tensor:
        """Mean over records; states [records, width], vectors [items, width], offsets [items]."""
        num = len(states)
        wide, shift = vectors.float(), offsets.float()
        by_state = torch.empty_like(states, dtype=torch.float32)
        by_vector, by_offset = torch.zeros_like(wide), torch.zeros_like(shift)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        size = max(1, MOST_LOGITS // max(1, len(vectors)))
        for begin in range(0, num, size):
            part = states[begin : begin + size].float()
            wanted = targets[begin : begin + size, None]
            logits = torch.addmm(shift, part, wide.T)
            norms = logits.logsumexp(1, keepdim=True)
            total += (norms - logits.gather(1, wanted)).sum()
            shares = logits.sub_(norms).exp_()
            shares.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=shares.dtype))
            by_state[begin : begin + size] = shares @ wide
            by_vector.addmm_(shares.T, part)
            by_offset += shares.sum(0)
        gradients = (by_state.to(states.dtype), by_vector.to(vectors.dtype))
        ctx.save_for_backward(*gradients, by_offset.to(offsets.dtype))
        ctx.num = num
        return total / num

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        scale = outer[0] / ctx.num
        by_state, by_vector, by_offset = ctx.saved_tensors
        return by_state * scale, by_vector * scale, by_offset * scale, None


def chunked_entropy(states: Tensor, vectors: Tensor, offsets: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy, fp32 scalar, of logits `states @ vectors.T + offsets`.

    states [records, width], vectors [items, width], offsets [items], targets [records] places in
    `vectors`. Gradients with respect to the first three; none of a mean over no record (0).
    """
    if not len(states):
        return (states.sum() + vectors.sum() * 0 + offsets.sum() * 0).float()
    found: Tensor = _ChunkedEntropy.apply(states, vectors, offsets, targets)  # type: ignore[no-untyped-call]
    return found
