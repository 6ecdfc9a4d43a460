"""Rows of different lengths as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.domains import Columns


def joined_rows(rows: Sequence[Columns]) -> Columns:
    """Rows [1, time] of columns with a length each as [batch, longest], filled up with 0."""
    joined: Columns = {}
    for name in rows[0]:
        parts = [row[name] for row in rows]
        if f"{name}_length" not in rows[0]:
            joined[name] = np.concatenate(parts)
            continue
        longest = max(part.shape[1] for part in parts)
        joined[name] = np.zeros((len(parts), longest), parts[0].dtype)
        for part, into in zip(parts, joined[name], strict=True):
            into[: part.shape[1]] = part[0]
    return joined
