"""Size of the networks for speech, exactly as jobs/domains/speech builds them, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from cluster.memory import Counted
from cluster.parameters import attention_flops
from cluster.spec.networks import CTC, Tacotron2

CHARACTERS = 32
"""Assumed before the data is read: different characters, of which each costs two rows."""
HEARD_MS, SPOKEN_MS = 10_000, 7_000
"""Assumed of one recording before the data is read, to recognise and to speak."""
HEARD_FRAME_MS, SPOKEN_FRAME_MS, CHARACTER_MS = 10.0, 12.5, 70.0
"""Of a frame of each spectrogram, and of a spoken letter, as a rule."""
STEM_KERNEL, KERNEL = 5, 15
ENCODER_LAYERS, POSTNET_LAYERS, CONVOLUTION = 3, 5, 5
FILTERS, FILTER_KERNEL = 32, 31


def ctc_shape(network: CTC, micro: int, sizes: Mapping[str, int] | None = None) -> Counted:
    """What memory and time depend on in a recogniser."""
    width, layers = network.width, network.layers
    frames = round((sizes or {}).get("milliseconds", HEARD_MS) / HEARD_FRAME_MS)
    steps = -(-frames // network.subsampling)
    stem = STEM_KERNEL * (network.mels * width + width * width)
    flops = 6.0 * (stem * steps + layers * _ctc_block(width) * steps)
    # of each block what its norms, matrices, gates and attention keep, and the stem's two layers
    halved = frames if network.subsampling == 1 else frames // 2
    values = steps * width * (31 * layers + 4) + 2 * halved * width + frames * network.mels
    return Counted(
        ctc_parameters(network),
        micro * values,
        flops + attention_flops(layers, width, steps),
    )


def ctc_parameters(network: CTC, characters: int = CHARACTERS) -> int:
    """The stem, the blocks, and the layer that writes characters."""
    width = network.width
    stem = STEM_KERNEL * (network.mels * width + width * width) + 2 * width + 2 * width
    small = 3 * width + width + 2 * width + width + width + 4 * width + width + 8 * width
    blocks = network.layers * (_ctc_block(width) + small)
    return stem + blocks + 2 * width + characters * (width + 1)


def tacotron_shape(
    network: Tacotron2, micro: int, sizes: Mapping[str, int] | None = None
) -> Counted:
    """What memory and time depend on in a speaker."""
    spoken_ms = (sizes or {}).get("milliseconds", SPOKEN_MS)
    frames, letters = round(spoken_ms / SPOKEN_FRAME_MS), round(spoken_ms / CHARACTER_MS)
    steps = -(-frames // network.reduction)
    encoder, decoder, postnet = _encoder(network), _decoder(network), _postnet(network)
    flops = 6.0 * (encoder * letters + decoder * steps + postnet * frames)
    width = network.width
    # of each step two cells with zoneout, the pre-net, and what attention compares; of each frame
    # the post-net; of each letter the encoder: fitted to what autograd keeps of forty sizes
    step = 17 * network.decoder + 6 * network.prenet + 3 * width + 185
    step += letters * (network.attention + 59)
    values = steps * step + frames * (16.5 * width + 3.7 * network.mels) + letters * 38 * width
    return Counted(tacotron_parameters(network), round(micro * values), flops, whole=decoder)


def tacotron_parameters(network: Tacotron2, characters: int = CHARACTERS, speakers: int = 1) -> int:
    """Encoder, decoder and post-net, with the tables of characters and speakers."""
    width = network.width
    tables = (characters + speakers) * width
    norms = 2 * ENCODER_LAYERS * width + 2 * ((POSTNET_LAYERS - 1) * width + network.mels)
    return tables + _encoder(network) + _decoder(network) + _postnet(network) + norms


def _ctc_block(width: int) -> int:
    """Weights of one block's matrices and of its convolution in depth."""
    return (3 + 1 + 2 + 1 + 4 + 4) * width * width + KERNEL * width


def _encoder(network: Tacotron2) -> int:
    width, half = network.width, network.width // 2
    return ENCODER_LAYERS * CONVOLUTION * width * width + 2 * _cell(width, half)


def _decoder(network: Tacotron2) -> int:
    width, size, prenet = network.width, network.decoder, network.prenet
    attention = network.attention * (size + width + FILTERS) + 2 * FILTERS * FILTER_KERNEL
    attention += network.attention + 1
    seen = size + width
    return (
        network.mels * prenet + prenet * prenet
        + _cell(prenet + width, size) + attention + _cell(seen, size)
        + (seen + 1) * (network.mels * network.reduction + 1)
    )  # fmt: skip


def _postnet(network: Tacotron2) -> int:
    sizes = [network.mels, *[network.width] * (POSTNET_LAYERS - 1), network.mels]
    return CONVOLUTION * sum(a * b for a, b in pairwise(sizes))


def _cell(inner: int, size: int) -> int:
    """Weights and the two biases of a recurrent layer."""
    return 4 * size * (inner + size) + 8 * size
