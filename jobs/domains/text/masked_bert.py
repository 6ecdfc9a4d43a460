"""BERT that guesses hidden tokens, and computes logits for these alone."""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor
from transformers.modeling_outputs import MaskedLMOutput


class BertForMaskedLM(transformers.BertForMaskedLM):  # type: ignore[misc]
    """transformers' own, under its own name, which config.json says.

    Of all tokens 15 % are hidden: without the others' logits a step of a small network with a
    large vocabulary takes a fraction of the time and memory.
    """

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        hidden: Tensor | None = None,
        **other: Any,
    ) -> MaskedLMOutput:
        """Logits [hidden tokens, vocabulary] where `hidden` [batch, width] says which."""
        if hidden is None:
            return super().forward(input_ids, attention_mask=attention_mask, **other)
        states = self.bert(input_ids, attention_mask=attention_mask, **other)[0]
        return MaskedLMOutput(logits=self.cls(states[hidden]))
