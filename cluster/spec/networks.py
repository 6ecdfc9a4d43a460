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
from cluster.spec.section import Bool, Count, Section, chosen_by_type, variant

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
    width: Count = 32
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
    | Annotated[Pretrained, variant("pretrained")],
    Discriminator(_choose),
]
