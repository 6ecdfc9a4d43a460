"""Texts to labels with scores, with a trained classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jobs.domains import Columns, classes
from jobs.domains.text.padding import encoded, joined_rows, padded
from jobs.domains.text.vocabulary import Vocabulary
from jobs.domains.tracing import Forward, traced

PARAMETERS = ("top_k", "function_to_apply", "truncation")


class ClassificationAnswers:
    """Answers in the shape of Hugging Face's text classification."""

    def __init__(
        self, network: nn.Module, vocabulary: Vocabulary, labels: Sequence[str], context: int
    ) -> None:
        self.network: Any = network
        self.vocabulary = vocabulary
        self.labels = labels
        self.context = context
        self._logits: Forward = self._called

    def settle(self) -> None:
        """Make ready for many requests: BERT runs as a recorded graph on a processor."""
        if self.network.config.model_type == "bert" and self.network.device.type == "cpu":
            texts = [(3, 7), (1, 5), (2, self.context), (16, 1)]
            examples = [self._example(count, min(width, self.context)) for count, width in texts]
            self._logits = traced(self.network, self._called, examples)

    def _called(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits

    def _example(self, count: int, width: int) -> tuple[Tensor, Tensor]:
        """So many texts of any tokens, of lengths from half the width to all of it."""
        tokens = torch.arange(count * width).view(count, width) % self.vocabulary.size
        lengths = torch.linspace(-(-width // 2), width, count).long()
        mask = (torch.arange(width)[None] < lengths[:, None]).long()
        return tokens, mask

    def row(self, request: Mapping[str, Any]) -> Columns:
        """The text of a request as a row, or its several texts as several."""
        texts = texts_of(request)
        return joined_rows([encoded(self.vocabulary, text, self.context) for text in texts])

    @torch.inference_mode()
    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[list[list[dict[str, Any]]]]:
        """For each request a list per text of {"label", "score"}, the likeliest first."""
        tops = [_top_of(request) for request in requests]
        batch = padded(joined_rows(rows), self.vocabulary.padding, self.network.device)
        logits = self._logits(batch["input_ids"], batch["attention_mask"]).float().cpu().numpy()
        ends = np.cumsum([len(row["tokens"]) for row in rows])
        return [
            [classes.ranked(one, self.labels, top) for one in part]
            for part, top in zip(np.split(logits, ends[:-1]), tops, strict=True)
        ]

    def answer(self, request: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
        """{"inputs": text, "parameters": {"top_k"}} to [[{"label", "score"}, ...]].

        One list inside for each text, as huggingface_hub's InferenceClient reads it.
        """
        return self.answers([self.row(request)], [request])[0]


def texts_of(request: Mapping[str, Any]) -> list[str]:
    """The texts of "inputs"; ValueError where there is none."""
    inputs = request.get("inputs")
    given = inputs if isinstance(inputs, list) else [inputs]
    texts = [text for text in given if isinstance(text, str)]
    if not texts or len(texts) != len(given):
        raise ValueError('"inputs" must be a text or a list of texts')
    return texts


def parameters_of(request: Mapping[str, Any], known: Sequence[str]) -> Mapping[str, Any]:
    """The request's "parameters" that have a value; ValueError for unknown names."""
    given = request.get("parameters") or {}
    if not isinstance(given, Mapping):
        raise ValueError('"parameters" must be a mapping')
    for name in given:
        if name not in known:
            raise ValueError(f'unknown parameter "{name}"; known: {", ".join(known)}')
    return {name: value for name, value in given.items() if value is not None}


def count_of(given: Mapping[str, Any]) -> int | None:
    """The parameter top_k, a whole number from 1; None where it is not given."""
    top: int | None = given.get("top_k")
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
        raise ValueError(f"top_k must be a whole number of at least 1, not {top!r}")
    return top


def _top_of(request: Mapping[str, Any]) -> int | None:
    given = parameters_of(request, PARAMETERS)
    if given.get("function_to_apply", "softmax") != "softmax":
        raise ValueError(f"function_to_apply must be softmax, not {given['function_to_apply']!r}")
    return count_of(given)
