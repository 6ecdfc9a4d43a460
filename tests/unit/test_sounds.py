"""Networks for speech are counted as they are built."""

from typing import Any

import pytest
import torch

from cluster.sounds import ctc_parameters, tacotron_parameters
from cluster.spec.networks import CTC, Tacotron2
from jobs.domains.speech.ctc import CTCConfig, CTCForRecognition
from jobs.domains.speech.tacotron import Tacotron2Config, Tacotron2ForSynthesis


@pytest.mark.parametrize(
    "sizes", [{}, {"layers": 2, "width": 96, "mels": 40, "subsampling": 2}, {"width": 8}]
)
def test_a_recogniser_is_counted_exactly(sizes: dict[str, int]) -> None:
    network = CTC(type="ctc", **sizes)  # type: ignore[arg-type]
    config: Any = CTCConfig(
        vocab_size=11,
        num_mels=network.mels,
        width=network.width,
        num_hidden_layers=network.layers,
        num_attention_heads=network.heads,
        subsampling=network.subsampling,
    )
    with torch.device("meta"):
        built = CTCForRecognition(config)
    assert ctc_parameters(network, 11) == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize(
    "sizes", [{}, {"width": 32, "decoder": 48, "prenet": 16, "attention": 8, "reduction": 2}]
)
def test_a_speaker_is_counted_exactly(sizes: dict[str, int]) -> None:
    network = Tacotron2(type="tacotron2", **sizes)  # type: ignore[arg-type]
    config: Any = Tacotron2Config(
        vocab_size=11,
        num_speakers=3,
        num_mels=network.mels,
        **{k: getattr(network, k) for k in ("width", "decoder", "prenet", "attention")},
        reduction=network.reduction,
    )
    with torch.device("meta"):
        built = Tacotron2ForSynthesis(config)
    assert tacotron_parameters(network, 11, 3) == sum(p.numel() for p in built.parameters())
