"""What all sections of the spec share: frozen, unknown keys refused, null means the default."""

from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationInfo,
    model_validator,
)

Int = Annotated[int, Strict()]
Count = Annotated[int, Field(strict=True, ge=1)]
Float = Annotated[float, Strict()]
Positive = Annotated[float, Field(strict=True, gt=0)]
NotNegative = Annotated[float, Field(strict=True, ge=0)]
Bool = Annotated[bool, Strict()]


class Section(BaseModel):
    """A map of the YAML. The text right under a field is its documentation."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        defer_build=True,  # only the whole document is ever built: a fifth of the time
        populate_by_name=True,
        protected_namespaces=(),
    )

    short: ClassVar[str | None] = None
    """The key that a bare scalar in place of the map stands for."""

    @model_validator(mode="before")
    @classmethod
    def _open(cls, data: Any, info: ValidationInfo) -> Any:
        if cls.short is not None and isinstance(data, str):
            return {cls.short: data}
        if not isinstance(data, dict):
            return data
        if info.context is not None:
            # the translator of errors asks which section a map of the YAML was read as
            info.context["sections"][id(data)] = cls
        known = keys(cls)
        return {k: v for k, v in data.items() if v is not None or k not in known}


@cache
def keys(section: type[Section]) -> tuple[str, ...]:
    """The keys that a section's map may have, in the order of the reference."""
    return tuple(field.alias or name for name, field in section.model_fields.items())


def as_list(value: object) -> object:
    """A single value where a list may stand."""
    return value if isinstance(value, list | tuple) else (value,)


def variant(name: str) -> Tag:
    """Marks a member of a union on ``type``; the mark cannot be mistaken for a key."""
    return Tag(f"={name}")


def chosen_by_type(default: str) -> Discriminator:
    """Chooses the union's member by the key ``type``, by a bare word, or the default."""

    def choose(data: Any) -> str:
        if isinstance(data, str):
            return f"={data}"
        kind = data.get("type") if isinstance(data, dict) else getattr(data, "type", None)
        return f"={kind or default}"

    return Discriminator(choose)
