"""The section ``data:`` of a model."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema

from cluster.spec.grammar import Seconds, Share, parse_share, show
from cluster.spec.references import Place, absolute
from cluster.spec.section import Bool, Count, Int, Section, as_list


def _column(value: object) -> str | int:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"{show(value)} is neither a column's name nor its position from 0")


Column = Annotated[
    str | int, PlainValidator(_column), WithJsonSchema({"type": ["string", "integer"]})
]


def _part(value: object, info: ValidationInfo) -> float | str:
    if isinstance(value, str) and value and not value.rstrip().endswith("%"):
        return absolute(value, info)
    return parse_share(value)


Part = Annotated[
    float | str,
    PlainValidator(_part),
    WithJsonSchema({"type": ["string", "number"], "x-kind": "share or path"}),
]


class Split(Section):
    """How records are kept back from training."""

    validation: Part = 0.1
    """Share of the records, or path or URI of them, that chooses checkpoints and trials."""
    test: Part = 0.1
    """Share of the records, or path or URI of them, that the gate reads; 0% for text
    generation and masked-lm."""
    by: Column | None = None
    """Column whose records stay together on one side, such as a customer."""
    time: Column | None = None
    """Column of times, numbers or ISO dates: the newest records are those kept back."""
    last: Count | None = None
    """For recommendation: so many of each user's newest events for each part; by default 1 for
    next-item, and for rating the part's share of each user's events."""


class Tokenizer(Section):
    """How text is cut into tokens."""

    short = "type"

    type: Literal["bpe", "character", "wordpiece"] = "bpe"
    """bpe (byte-level byte-pair encoding), character or wordpiece."""
    size: Count = 8192
    """Number of tokens to learn; character takes the characters that occur, at most so many."""
    path: Place | None = None
    """A tokenizer.json, or the folder of one, to use in place of learning one."""


class Audio(Section):
    """What recordings are brought to, for speech."""

    rate: Annotated[int, Field(strict=True, ge=4000, le=48000)] = 16000
    """Samples per second; a pretrained network brings its own."""
    longest: Seconds = 20.0
    """Longer recordings are left out, and counted."""
    trim: Bool = True
    """Whether silence at both ends is cut off."""
    loudness: Annotated[float, Field(strict=True, ge=-60, le=0)] = -25.0
    """Root mean square in dB of full scale, as far as nothing is clipped."""


class DataSpec(Section):
    """What a model learns from."""

    short = "source"

    source: Annotated[tuple[Place, ...], BeforeValidator(as_list), Field(min_length=1)]
    """Path, glob, folder, archive, URI or builtin:NAME, or a list of these."""
    columns: dict[str, Column] = Field(default_factory=dict)
    """Which column holds what: role to the column's name or its position from 0."""
    encoding: str = "auto"
    """Character encoding of the files: auto, utf-8, gb18030, ..."""
    split: Split = Split()
    """How records are kept back from training."""
    tokenizer: Tokenizer = Tokenizer()
    """How text is cut into tokens."""
    audio: Audio = Audio()
    """What recordings are brought to, for speech."""
    max_bad: Share = 0.01
    """Share of unreadable records at which preparing stops."""
    seed: Int = 0
    """Seed of the split."""
