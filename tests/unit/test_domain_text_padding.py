"""Rows of different lengths as one batch."""

from __future__ import annotations

import numpy as np
import torch

from jobs.domains.text.padding import padded


def test_batches_are_no_wider_than_their_longest_text_on_a_processor() -> None:
    rows = {"tokens": np.ones((2, 25), np.int32), "tokens_length": np.asarray([25, 3])}
    assert padded(rows, 0)["input_ids"].shape == (2, 32)
    exact = padded(rows, 0, torch.device("cpu"))
    assert exact["input_ids"].shape == (2, 25)
    assert exact["attention_mask"].sum(1).tolist() == [25, 3]
