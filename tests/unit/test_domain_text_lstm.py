"""The recurrent part of the text classifier."""

from __future__ import annotations

import torch

from jobs.domains.text.lstm import LSTMConfig, LSTMEncoder


def test_whole_tokens_are_hidden_in_training_only() -> None:
    encoder = LSTMEncoder(LSTMConfig(vocab_size=9, width=8, token_dropout=0.5))
    words = torch.ones(50, 20, 8)
    hidden = encoder.train()._hide(words)
    assert torch.equal(hidden.amin(2), hidden.amax(2))  # all of a token's vector, or nothing
    assert 0.4 < hidden.mean().item() < 0.6
    assert torch.equal(encoder.eval()._hide(words), words)
