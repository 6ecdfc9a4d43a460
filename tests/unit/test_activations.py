"""A plan's activations are what autograd keeps, within a tenth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cluster.memory import activations
from cluster.shapes import network_shape
from cluster.spec import parse_model
from jobs.domains.recommendation.networks import SASRec, shape_of
from jobs.domains.speech.ctc import CTCConfig, CTCForRecognition
from jobs.domains.speech.tacotron import Tacotron2Config, Tacotron2ForSynthesis
from jobs.domains.text.encoders import build_classifier
from jobs.domains.text.networks import build as build_decoder
from jobs.domains.text.ngrams import TABLE
from jobs.domains.vision.networks import build as build_vision
from jobs.domains.vision.networks import logits_of
from jobs.domains.vision.pictures import Pictures, enlargement
from tests.activations import kept_bytes

BATCH, TIME, WORDS = 4, 96, 60
Made = tuple[nn.Module, Callable[[], Any]]
VOCABULARY: Any = SimpleNamespace(size=WORDS, padding=0, end=0)


def decoder(network: Any) -> Made:
    built: Any = build_decoder(network, VOCABULARY, None)
    ids = torch.randint(0, WORDS, (BATCH, TIME))

    def run() -> Any:
        logits = built(input_ids=ids, use_cache=False).logits.float().flatten(0, 1)
        return nn.functional.cross_entropy(logits, ids.flatten())

    return built, run


def classifier(network: Any) -> Made:
    model: Any = SimpleNamespace(network=network)
    with TemporaryDirectory() as folder:
        numbers = torch.arange(1000)
        table = {
            "known": numbers,
            "documents": numbers.int(),
            "evidence": numbers.int()[:, None].expand(-1, 2).contiguous(),
            "num_documents": torch.tensor([1000]),
        }
        table["spelling"] = torch.randint(97, 122, (WORDS, 5), dtype=torch.int32)
        save_file(table, Path(folder, TABLE))
        built: Any = build_classifier(model, VOCABULARY, ["a", "b"], None, Path(folder))
    ids = torch.randint(1, WORDS, (BATCH, TIME))
    return built, lambda: built(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum()


def sasrec(network: Any) -> Made:
    built = SASRec(shape_of(network, WORDS, WORDS, 0), np.ones(WORDS, np.int64))
    items = torch.randint(1, WORDS, (BATCH, TIME))
    return built, lambda: built(items, items.roll(-1, 1), torch.full((BATCH,), TIME))


def pictures(network: Any) -> Made:
    size = network.size
    enlarge = enlargement(size) if network.type == "resnet" else 1
    shape = Pictures(size, 3, (0.5,) * 3, (0.5,) * 3, enlarge=enlarge)
    built = build_vision(SimpleNamespace(network=network), shape, ["a", "b"], None)  # type: ignore[arg-type]
    pixels = torch.randn(BATCH, 3, size, size)
    return built, lambda: logits_of(built, pixels, shape).sum()


def ctc(network: Any) -> Made:
    config: Any = CTCConfig(
        vocab_size=30,
        num_mels=network.mels,
        width=network.width,
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        subsampling=network.subsampling,
    )
    built = CTCForRecognition(config)
    frames, lengths = torch.randn(BATCH, 200, network.mels), torch.full((BATCH,), 200)
    return built, lambda: built(frames, lengths)[0].sum()


def tacotron(network: Any) -> Made:
    config: Any = Tacotron2Config(
        vocab_size=30,
        num_mels=network.mels,
        **{k: getattr(network, k) for k in ("width", "decoder", "prenet", "attention")},
        reduction=network.reduction,
    )
    built = Tacotron2ForSynthesis(config)
    letters, mels = torch.randint(1, 29, (BATCH, 29)), torch.randn(BATCH, 160, network.mels)

    def run() -> Any:
        lengths, frames = torch.full((BATCH,), 29), torch.full((BATCH,), 160)
        spoken = built(letters, lengths, torch.zeros(BATCH).long(), mels, frames)
        return spoken.before.sum() + spoken.after.sum() + spoken.stops.sum()

    return built, run


GENERATION = {"domain": "text", "task": "generation"}
CLASSES = {"domain": "text", "task": "classification"}
VISION = {"domain": "vision", "task": "classification"}
SIZE: dict[str, Any] = {"layers": 3, "heads": 4, "width": 96, "context": TIME}
CASES: dict[str, tuple[dict[str, str], dict[str, Any], Callable[[Any], Made]]] = {
    "gpt2": (GENERATION, {"type": "gpt", **SIZE}, decoder),
    "gpt2-dropout": (GENERATION, {"type": "gpt", **SIZE, "dropout": 0.1}, decoder),
    "llama": (GENERATION, {"type": "gpt", "style": "llama", **SIZE, "kv_heads": 2}, decoder),
    "bert": (CLASSES, {"type": "bert", **SIZE, "dropout": 0.0}, classifier),
    "bert-dropout": (CLASSES, {"type": "bert", **SIZE}, classifier),
    "lstm": (CLASSES, {"type": "lstm", "layers": 2, "width": 96, "context": TIME}, classifier),
    "sasrec": (
        {"domain": "recommendation", "task": "next-item"},
        {"type": "sasrec", **SIZE},
        sasrec,
    ),
    "resnet": (VISION, {"type": "resnet", "width": 16, "size": 16}, pictures),
    "resnet-large": (VISION, {"type": "resnet", "width": 16, "blocks": 1, "size": 80}, pictures),
    "cnn": (VISION, {"type": "cnn", "width": 16, "size": 32, "blocks": 2}, pictures),
    "ctc": (
        {"domain": "speech", "task": "recognition"},
        {"type": "ctc", "layers": 3, "heads": 4, "width": 96, "subsampling": 2},
        ctc,
    ),
    "tacotron2": (
        {"domain": "speech", "task": "synthesis"},
        {"type": "tacotron2", "width": 96, "decoder": 128, "prenet": 48, "reduction": 2},
        tacotron,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_kept_is_predicted(name: str) -> None:
    task, network, make = CASES[name]
    data = {"source": "x", "tokenizer": {"type": "bpe", "size": 300}}
    model = parse_model(
        task | {"data": data, "network": network, "train": {"global_batch": BATCH}}  # type: ignore[operator]
    )
    sizes = dict.fromkeys(("users", "items", "trained_users", "trained_items"), WORDS)
    sizes |= {"milliseconds": 2000}
    shape = network_shape(model, 1, sizes)
    assert shape is not None
    if name.startswith(("gpt2", "llama")):  # the vocabulary of this test, not of the spec
        from dataclasses import replace

        shape = replace(shape, logits=WORDS)  # type: ignore[type-var]
    built, run = make(model.network)
    built.train()
    predicted = activations(shape, "fp32", False, fused=False)
    assert predicted == pytest.approx(kept_bytes(built, run), rel=0.1)
