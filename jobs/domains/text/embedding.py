"""Texts as vectors: the mean of a trained network's last hidden states over the text's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from jobs.domains import Columns
from jobs.domains.text.padding import encoded, joined_rows, padded


class Embeddings:
    """Answers texts with vectors, through the network of any loaded text model."""

    def __init__(self, loaded: Any) -> None:
        """Raises ValueError where the network has no hidden states to show."""
        self.vocabulary = loaded.vocabulary
        self.context = int(loaded.context)
        self.body: Any = getattr(loaded.network, "base_model", loaded.network)
        if self.body is loaded.network:
            raise ValueError("this model's network has no embeddings; BERT and GPT have")

    def row(self, request: Mapping[str, Any]) -> Columns:
        """{"inputs": text} as a row; a text longer than the context is cut."""
        text = request.get("inputs")
        if not isinstance(text, str):
            raise ValueError('"inputs" must be a text')
        row = encoded(self.vocabulary, text, self.context)
        return row if row["tokens"].size else encoded(self.vocabulary, "\n", self.context)

    @torch.inference_mode()
    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """{"embedding": [width] floats, "tokens": length} for each text."""
        batch = padded(joined_rows(rows), self.vocabulary.padding, self.body.device)
        states = self.body(**batch).last_hidden_state.float()  # [batch, tokens, width]
        mask = batch["attention_mask"][..., None]
        means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        lengths = [int(row["tokens_length"][0]) for row in rows]
        return [
            {"embedding": vector, "tokens": length}
            for vector, length in zip(means.cpu().tolist(), lengths, strict=True)
        ]

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One text to its vector."""
        return self.answers([self.row(request)], [request])[0]
