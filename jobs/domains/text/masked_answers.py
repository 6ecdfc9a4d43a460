"""Texts with gaps to the likeliest fillings, with a trained masked language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jobs.domains import Columns
from jobs.domains.text.classification_answers import count_of, parameters_of
from jobs.domains.text.padding import joined_rows, padded
from jobs.domains.text.vocabulary import Vocabulary

PARAMETERS = ("top_k", "targets")
TOP = 5


class MaskedAnswers:
    """Answers in the shape of Hugging Face's fill-mask."""

    def __init__(self, network: nn.Module, vocabulary: Vocabulary, context: int) -> None:
        self.network: Any = network
        self.vocabulary = vocabulary
        self.context = context

    def row(self, request: Mapping[str, Any]) -> Columns:
        """The text of a request as a row, its gaps as mask tokens."""
        text = request.get("inputs")
        mark = self.vocabulary.mask_text
        if not isinstance(text, str) or mark not in text:
            raise ValueError(f'"inputs" must be a text with a gap, written {mark}')
        before, after = self.vocabulary.frame
        parts = [self.vocabulary.encode(part) for part in text.split(mark)]
        gap = np.asarray([self.vocabulary.mask], np.int32)
        joined = [piece for part in parts for piece in (gap, part)][1:]
        tokens = np.concatenate([before, *joined, after])
        if tokens.size > self.context:
            raise ValueError(f'"inputs" is {tokens.size} tokens long; at most {self.context}')
        return {"tokens": tokens[None], "tokens_length": np.asarray([tokens.size])}

    @torch.inference_mode()
    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[list[Any]]:
        """For each request the likeliest fillings of its gap, or a list of these for each gap."""
        batch = padded(joined_rows(rows), self.vocabulary.padding, self.network.device)
        shares = self.network(**batch).logits.float().softmax(2).cpu().numpy()
        found = zip(rows, shares, requests, strict=True)
        return [self._fill(row["tokens"][0], own, request) for row, own, request in found]

    def answer(self, request: Mapping[str, Any]) -> list[Any]:
        """{"inputs": text, "parameters": {"top_k", "targets"}} to the likeliest fillings.

        [{"score", "token", "token_str", "sequence"}], the likeliest first.
        """
        return self.answers([self.row(request)], [request])[0]

    def _fill(
        self, tokens: NDArray[Any], shares: NDArray[Any], request: Mapping[str, Any]
    ) -> list[Any]:
        given = parameters_of(request, PARAMETERS)
        top, allowed = count_of(given) or TOP, self._targets(given.get("targets"))
        gaps = np.flatnonzero(tokens == self.vocabulary.mask).tolist()
        filled = []
        for gap in gaps:
            candidates = np.arange(shares.shape[1]) if allowed is None else allowed
            order = candidates[np.argsort(-shares[gap, candidates], kind="stable")][:top]
            filled.append([self._filling(tokens, gap, i, shares[gap, i]) for i in order.tolist()])
        return filled[0] if len(gaps) == 1 else filled

    def _filling(self, tokens: NDArray[Any], gap: int, choice: int, score: float) -> dict[str, Any]:
        whole = tokens.copy()
        whole[gap] = choice
        text = self.vocabulary.decode([choice])
        sequence = self.vocabulary.decode(whole.tolist())
        return {"score": float(score), "token": choice, "token_str": text, "sequence": sequence}

    def _targets(self, given: Any) -> NDArray[Any] | None:
        """Ids of the tokens that may be answered: of each target its first."""
        if given is None:
            return None
        targets = given if isinstance(given, list) else [given]
        if not targets or not all(isinstance(target, str) and target for target in targets):
            raise ValueError("targets must be texts")
        return np.unique([self.vocabulary.encode(target)[0] for target in targets])
