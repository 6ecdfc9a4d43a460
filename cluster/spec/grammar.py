"""The small values of the YAML: durations, sizes, shares, ranges, money, amounts, secrets."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("", 1000), ("B", 1000), ("i", 1024), ("iB", 1024))
    for power, prefix in enumerate(("K", "M", "G", "T", "P"), start=1)
}


def _quantity(value: object, units: dict[str, Any]) -> tuple[float, str] | None:
    match = re.fullmatch(rf"({NUMBER})\s*([A-Za-z%]*)", value) if isinstance(value, str) else None
    return (float(match[1]), match[2]) if match and match[2] in units else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_duration(value: object) -> float:
    """Seconds of ``5ms``, ``90s``, ``10m``, ``2h``, ``1d``, or of a bare number."""
    if _is_number(value) and 0 <= value < float("inf"):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    quantity = _quantity(value, _SECONDS)
    if quantity is None:
        raise ValueError(f"{show(value)} is not a duration; write one like 5ms, 90s, 10m or 2h")
    return quantity[0] * _SECONDS[quantity[1]]


def parse_size(value: object) -> int:
    """Bytes of ``8Gi``, ``512Mi``, ``16GB``, or of a bare whole number."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    quantity = _quantity(value, _BYTES)
    if quantity is None:
        raise ValueError(f"{show(value)} is not a size; write one like 512Mi, 8Gi or 16GB")
    return int(quantity[0] * _BYTES[quantity[1]])


def parse_share(value: object) -> float:
    """0.1 of ``10%`` or of ``0.1``."""
    share = value if _is_number(value) else None
    quantity = _quantity(value, {"%": 1})
    if quantity is not None:
        share = quantity[0] / 100
    if share is None or not 0 <= share <= 1:  # type: ignore[operator]
        raise ValueError(f"{show(value)} is not a share; write one from 0% to 100%, or from 0 to 1")
    return float(share)  # type: ignore[arg-type]


def show(value: object) -> str:
    """A value as a message repeats it: short, and without Python's words."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:56] + '..."'


def _schema(kind: str, *types: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": list(types), "examples": [example], "x-kind": kind})


Seconds = Annotated[
    float,
    PlainValidator(parse_duration),
    _schema("duration", "string", "number", example="10m"),
]
Bytes = Annotated[
    int, PlainValidator(parse_size), _schema("size", "string", "integer", example="8Gi")
]
Share = Annotated[
    float, PlainValidator(parse_share), _schema("share", "string", "number", example="10%")
]


class Scalar:
    """A value with a notation of its own: parsed by ``parse``, written back by ``dump``."""

    json_schema: ClassVar[dict[str, Any]]

    @classmethod
    def parse(cls, value: object) -> Self:
        """The value of its notation. Raises ValueError that says what is allowed."""
        raise NotImplementedError

    def dump(self) -> Any:
        """The notation that parses to this value."""
        return str(self)

    @classmethod
    def _take(cls, value: object) -> Self:
        return value if isinstance(value, cls) else cls.parse(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        write = core_schema.plain_serializer_function_ser_schema(lambda value: value.dump())
        return core_schema.no_info_plain_validator_function(cls._take, serialization=write)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(cls.json_schema)


@dataclass(frozen=True)
class Range(Scalar):
    """Whole numbers from ``min`` to ``max``, both included: ``0..4``, or ``2`` for just that."""

    min: int
    max: int
    json_schema: ClassVar[dict[str, Any]] = {
        "type": ["string", "integer"],
        "pattern": r"^[0-9]+\s*\.\.\s*[0-9]+$",
        "x-kind": "range",
        "examples": ["1..8"],
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value, value)
        match = re.fullmatch(r"(\d+)\s*\.\.\s*(\d+)", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{show(value)} is neither a whole number nor a range like 1..8")
        low, high = int(match[1]), int(match[2])
        if low > high:
            raise ValueError(f"{low} is above {high}; write the smaller first: {high}..{low}")
        return cls(low, high)

    def __contains__(self, number: int) -> bool:
        return self.min <= number <= self.max

    def __str__(self) -> str:
        return str(self.min) if self.min == self.max else f"{self.min}..{self.max}"

    def dump(self) -> Any:
        return self.min if self.min == self.max else str(self)


@dataclass(frozen=True)
class Amount(Scalar):
    """An amount of training: ``500`` or ``500 steps``, ``1 epoch``, ``5%`` of the run."""

    value: float
    unit: Literal["steps", "epochs", "share"]
    json_schema: ClassVar[dict[str, Any]] = {
        "type": ["string", "integer"],
        "pattern": rf"^{NUMBER}\s*(steps?|epochs?|%)$",
        "x-kind": "amount",
        "examples": ["500 steps", "1 epoch", "5%"],
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(float(value), "steps")
        units = {"step": "steps", "steps": "steps", "epoch": "epochs", "epochs": "epochs", "%": "%"}
        quantity = _quantity(value, units)
        if quantity is None or (units[quantity[1]] == "steps" and quantity[0] % 1):
            raise ValueError(
                f"{show(value)} is not an amount of training; write 500 steps, 1 epoch or 5%"
            )
        if quantity[1] == "%":
            return cls(parse_share(value), "share")
        return cls(quantity[0], "epochs" if "epoch" in quantity[1] else "steps")

    def in_steps(self, steps_per_epoch: int, total_steps: int) -> int:
        """The amount in optimizer steps: at least 1, but 0 when the amount itself is 0."""
        of = {"steps": 1, "epochs": steps_per_epoch, "share": total_steps}[self.unit]
        return max(1, round(self.value * of)) if self.value else 0

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{self.value * 100:.12g}%"
        unit = self.unit.removesuffix("s") if self.value == 1 else self.unit
        return f"{self.value:.12g} {unit}"


@dataclass(frozen=True)
class Money(Scalar):
    """``31.2 USD/h``, ``200 USD/month``, ``50 EUR``."""

    value: float
    currency: str
    per: Literal["h", "day", "month"] | None = None
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": rf"^{NUMBER}\s*[A-Z]{{3}}(/(h|day|month))?$",
        "x-kind": "money",
        "examples": ["31.2 USD/h"],
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        pattern = rf"({NUMBER})\s*([A-Z]{{3}})(?:/(h|day|month))?"
        match = re.fullmatch(pattern, value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(
                f"{show(value)} is not an amount of money; write one like 31.2 USD/h, "
                "200 USD/month or 50 EUR"
            )
        return cls(float(match[1]), match[2], match[3])  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.value:.12g} {self.currency}" + (f"/{self.per}" if self.per else "")


@dataclass(frozen=True)
class Accelerator(Scalar):
    """``H100:8``: so many of one kind on each node; ``H100`` is one."""

    name: str
    count: int
    json_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^[A-Za-z][\w.-]*(:[1-9][0-9]*)?$",
        "x-kind": "accelerator",
        "examples": ["H100:8"],
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        pattern = r"([A-Za-z][\w.-]*)(?::([1-9]\d*))?"
        match = re.fullmatch(pattern, value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{show(value)} is not an accelerator; write one like H100:8")
        return cls(match[1], int(match[2] or 1))

    def __str__(self) -> str:
        return f"{self.name}:{self.count}"
