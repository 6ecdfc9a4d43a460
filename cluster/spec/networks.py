"""The section ``network:`` of a model."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Discriminator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from cluster.spec.grammar import show
from cluster.spec.references import absolute
from cluster.spec.section import Bool, Count, NotNegative, Section, chosen_by_type, variant

Dropout = Annotated[float, Field(strict=True, ge=0, lt=1)]
ALL_STAGES = (0, 1, 2, 3)


class Network(Section):
    """What all networks declare."""

    short: ClassVar[str | None] = "type"

    zero_stages: ClassVar[tuple[int, ...]] = ALL_STAGES
    """The ZeRO stages that the network can train at."""


class GPT(Network):
    """A decoder that predicts the next token."""

    type: Literal["gpt"] = "gpt"
    """A causal language model."""
    style: Literal["gpt2", "llama"] = "gpt2"
    """gpt2 (learned positions, GELU) or llama (rotary positions, SwiGLU, RMSNorm)."""
    layers: Count = 4
    """Number of blocks."""
    heads: Count = 4
    """Attention heads; they share the width evenly."""
    width: Count = 256
    """Size of the hidden state."""
    context: Count = 256
    """Longest sequence in tokens."""
    dropout: Dropout = 0.0
    """Share of activations dropped in training."""
    kv_heads: Count | None = None
    """Heads of keys and values, for style llama; as many as heads by default."""


class Bert(Network):
    """An encoder that reads the whole text."""

    type: Literal["bert"]
    """A bidirectional encoder."""
    layers: Count = 4
    """Number of blocks."""
    heads: Count = 4
    """Attention heads; they share the width evenly."""
    width: Count = 256
    """Size of the hidden state."""
    context: Count = 256
    """Longest sequence in tokens."""
    dropout: Dropout = 0.1
    """Share of activations dropped in training."""


class LSTM(Network):
    """A recurrent network."""

    type: Literal["lstm"]
    """A long short-term memory network."""
    layers: Count = 2
    """Number of layers."""
    width: Count = 256
    """Size of the hidden state."""
    context: Count = 256
    """Longest sequence in tokens."""
    dropout: Dropout = 0.1
    """Share of activations dropped in training."""
    token_dropout: Dropout = 0.0
    """Share of whole tokens that it does not see in training."""
    bidirectional: Bool = True
    """Whether it reads in both directions."""


def _size(value: object) -> object:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if is_count or value == "auto":
        return value
    raise ValueError(f"{show(value)} is neither auto nor a number of pixels")


Size = Annotated[
    Literal["auto"] | int,
    PlainValidator(_size),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]


class ResNet(Network):
    """A residual network of transformers, for pictures."""

    type: Literal["resnet"]
    """A residual network (arXiv:1512.03385); small pictures are enlarged before its stem."""
    width: Count = 32
    """Channels of the first stage; every further stage has twice as many."""
    stages: Count = 3
    """Stages; each but the first halves the sides."""
    blocks: Count = 2
    """Residual blocks in each stage."""
    size: Size = "auto"
    """Side of the pictures in pixels; auto: their own where all have the same of at most 64,
    else 64."""


class CNN(Network):
    """A small convolutional network, quick on CPUs."""

    type: Literal["cnn"]
    """A small residual network for small pictures."""
    width: Count = 16
    """Channels after the stem; every stage doubles them."""
    stages: Count = 3
    """Stages; each halves the sides."""
    blocks: Count = 1
    """Residual blocks in each stage."""
    dropout: Dropout = 0.0
    """Share of activations dropped before the last layer in training."""
    size: Size = "auto"
    """Side of the pictures in pixels; auto: their own where all have the same of at most 64,
    else 64."""


class CTC(Network):
    """A recogniser of speech over log-mel spectrograms."""

    type: Literal["ctc"]
    """Convolutions and attention with CTC (Graves et al., 2006), greedily decoded."""
    layers: Count = 4
    """Number of blocks."""
    heads: Count = 4
    """Attention heads; they share the width evenly."""
    width: Count = 144
    """Size of the hidden state."""
    dropout: Dropout = 0.1
    """Share of activations dropped in training."""
    mels: Count = 80
    """Bands of the spectrogram, one of each hundredth of a second."""
    subsampling: Literal[1, 2, 4] = 4
    """Hundredths of a second between two characters at least; 2 for short words."""
    decode: Literal["greedy", "known"] = "greedy"
    """greedy: the likeliest characters. known: the likeliest of the training part's texts, of up to
    1,000, where nothing else is said: digits, commands."""


class Tacotron2(Network):
    """From text to speech (arXiv:1712.05884)."""

    type: Literal["tacotron2"]
    """Tacotron 2 with a stop token, and Griffin-Lim as its vocoder."""
    width: Count = 512
    """Size of the characters' states and channels of the convolutions around."""
    decoder: Count = 1024
    """Size of each of the decoder's two recurrent layers."""
    prenet: Count = 256
    """Size of the two layers that each frame passes on its way into the decoder."""
    attention: Count = 128
    """Size of the space in which attention compares."""
    reduction: Count = 1
    """Frames that each step of the decoder gives; 2 or 3 for little data."""
    dropout: Dropout = 0.5
    """Share of activations dropped in the convolutions in training."""
    mels: Count = 80
    """Bands of the spectrogram, one of each eightieth of a second."""
    guide: NotNegative = 5.0
    """Weight of the loss that keeps attention near the diagonal (arXiv:1710.08969); 0 is none."""


class SASRec(Network):
    """Self-attention over what a user took."""

    type: Literal["sasrec"]
    """Predicts the next item from the order of those before it."""
    layers: Count = 2
    """Number of blocks."""
    heads: Count = 1
    """Attention heads; they share the width evenly."""
    width: Count = 64
    """Size of the vectors of items."""
    context: Count = 50
    """So many of a user's newest items are read."""
    dropout: Dropout = 0.2
    """Share of activations dropped in training."""
    samples: Count | None = None
    """Items that a step's loss compares with, besides the batch's own; by default all of up to
    65,536 items, and 8,192 of more."""


class TwoTower(Network):
    """A history and an item as vectors of one space."""

    type: Literal["two-tower"]
    """Knows items by their titles and genres too, also those that nobody has taken yet."""
    width: Count = 64
    """Size of the vectors of items."""
    context: Count = 50
    """So many of a user's newest items are read."""
    dropout: Dropout = 0.2
    """Share of activations dropped in training."""
    samples: Count | None = None
    """Items that a step's loss compares with, besides the batch's own; by default all of up to
    65,536 items, and 8,192 of more."""


class MatrixFactorisation(Network):
    """Factors and biases of users and items."""

    type: Literal["matrix-factorisation"]
    """Predicts ratings."""
    width: Count = 16
    """Number of factors."""
    dropout: Dropout = 0.0
    """Share of factors dropped in training."""
    recent: Annotated[int, Field(strict=True, ge=0)] = 20
    """So many of a user's newest ratings tell how the user rates at present."""
    damping: NotNegative = 6.0
    """Every bias and factor is held to 0 as if by so many ratings more."""


_BLOCKS_SCHEMA = {"anyOf": [{"const": "backbone"}, {"type": "integer", "minimum": 0}]}


def _blocks(value: object) -> object:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if is_count or value == "backbone":
        return value
    raise ValueError(f"{show(value)} is neither a number of blocks nor backbone")


class Pretrained(Network):
    """A network that has been trained before."""

    short = None

    pretrained: str
    """hf://OWNER/NAME, ./FOLDER, a URI, or a model of this file: NAME, NAME@3, NAME@ALIAS."""
    context: Count | None = None
    """Longest sequence in tokens; what the network was trained with by default."""

    freeze: Annotated[
        int | Literal["backbone"], PlainValidator(_blocks), WithJsonSchema(_BLOCKS_SCHEMA)
    ] = 0
    """What keeps its weights: the embeddings and so many blocks above them, or backbone for all
    but the head; 0 trains everything."""

    @field_validator("pretrained", mode="before")
    @classmethod
    def _from_root(cls, value: Any, info: ValidationInfo) -> Any:
        folder = isinstance(value, str) and (value.startswith((".", "~")) or "/" in value)
        return absolute(value, info) if folder else value


_by_type = chosen_by_type("gpt").discriminator


def _choose(value: Any) -> Any:
    if isinstance(value, Pretrained) or (isinstance(value, dict) and "pretrained" in value):
        return "=pretrained"
    assert callable(_by_type)
    return _by_type(value)


NetworkSpec = Annotated[
    Annotated[GPT, variant("gpt")]
    | Annotated[Bert, variant("bert")]
    | Annotated[LSTM, variant("lstm")]
    | Annotated[ResNet, variant("resnet")]
    | Annotated[CNN, variant("cnn")]
    | Annotated[CTC, variant("ctc")]
    | Annotated[Tacotron2, variant("tacotron2")]
    | Annotated[SASRec, variant("sasrec")]
    | Annotated[TwoTower, variant("two-tower")]
    | Annotated[MatrixFactorisation, variant("matrix-factorisation")]
    | Annotated[Pretrained, variant("pretrained")],
    Discriminator(_choose),
]
