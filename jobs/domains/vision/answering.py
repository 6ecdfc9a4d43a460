"""Pictures to labels with scores, with a trained classifier."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jobs.domains import Columns, classes
from jobs.domains.tracing import Forward, traced
from jobs.domains.vision.cnn import MODEL_TYPE
from jobs.domains.vision.decoding import MAX_BYTES, PictureError, decode, pixels_of
from jobs.domains.vision.networks import logits_of
from jobs.domains.vision.pictures import Pictures

PARAMETERS = ("top_k", "function_to_apply")
RECORDED = ("resnet", MODEL_TYPE)
"""Networks that take no decision by what a picture shows."""
TOP = 5
"""Classes in an answer that asks for no number, as in Hugging Face's pipelines."""


class ImageAnswers:
    """Answers in the shape of Hugging Face's image classification."""

    def __init__(self, network: nn.Module, pictures: Pictures, labels: Sequence[str]) -> None:
        self.network: Any = network
        self.pictures = pictures
        self.labels = labels
        self._logits: Forward = self._called

    def settle(self) -> None:
        """Make ready for many requests: ours run as a recorded graph on a processor."""
        if self.network.config.model_type in RECORDED and self.network.device.type == "cpu":
            size = self.pictures.size
            shapes = [(count, self.pictures.channels, size, size) for count in (3, 1, 16)]
            examples = [(torch.randn(shape),) for shape in shapes]
            self._logits = traced(self.network, self._called, examples)

    def _called(self, values: Tensor) -> Tensor:
        return logits_of(self.network, values, self.pictures)

    def row(self, request: Mapping[str, Any]) -> Columns:
        """The picture of a request as raw pixels, [1, channels * size * size]."""
        size, channels = self.pictures.size, self.pictures.channels
        try:
            image = decode(content_of(request), size)
        except PictureError as error:
            raise ValueError(f'"inputs" is no picture that can be used: {error}') from error
        return {"pixels": pixels_of(image, size, channels).reshape(1, -1)}

    @torch.inference_mode()
    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[list[dict[str, Any]]]:
        """For each request a list of {"label", "score"}, the likeliest first."""
        tops = [_top_of(request) for request in requests]
        pixels = self.pictures.shaped(np.concatenate([row["pixels"] for row in rows]))
        values = torch.from_numpy(self.pictures.normalised(pixels)).to(self.network.device)
        logits = self._logits(values).cpu().numpy()
        return [
            classes.ranked(one, self.labels, top) for one, top in zip(logits, tops, strict=True)
        ]

    def answer(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """{"inputs": picture, "parameters": {"top_k"}} to [{"label", "score"}, ...].

        The picture is an encoded file's bytes, or these as base64 text.
        """
        return self.answers([self.row(request)], [request])[0]


def content_of(request: Mapping[str, Any]) -> bytes:
    """The encoded picture of a request; ValueError where there is none or it is too large."""
    inputs = request.get("inputs")
    if isinstance(inputs, str):
        text = inputs.partition(",")[2] if inputs.startswith("data:") else inputs
        try:
            inputs = b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError('"inputs" is a text but not base64') from error
    if not isinstance(inputs, bytes | bytearray | memoryview):
        raise ValueError('"inputs" must be a picture: its bytes, or these as base64 text')
    if len(inputs) > MAX_BYTES:
        raise ValueError(f'"inputs" is more than {MAX_BYTES >> 20} MiB')
    return bytes(inputs)


def _top_of(request: Mapping[str, Any]) -> int:
    given = request.get("parameters") or {}
    if not isinstance(given, Mapping):
        raise ValueError('"parameters" must be a mapping')
    for name in given:
        if name not in PARAMETERS:
            raise ValueError(f'unknown parameter "{name}"; known: {", ".join(PARAMETERS)}')
    if given.get("function_to_apply") not in (None, "softmax"):
        raise ValueError(f"function_to_apply must be softmax, not {given['function_to_apply']!r}")
    top = given.get("top_k")
    if top is None:
        return TOP
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise ValueError(f"top_k must be a whole number of at least 1, not {top!r}")
    return top
