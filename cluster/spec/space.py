"""Models with some keys changed, and checks of ``tune.space`` by trying its values."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cluster.spec.document import Spec
from cluster.spec.grammar import Range, show
from cluster.spec.model_checks import available
from cluster.spec.models import ModelSpec
from cluster.spec.problems import did_you_mean
from cluster.spec.section import Section
from cluster.spec.train import PLACEMENT
from cluster.spec.translate import Finding, dotted, explain
from cluster.spec.tune import Dimension, Value

SEARCHED = ("data", "network", "train")
Space = Mapping[str, Dimension]


def with_values(model: ModelSpec, values: Mapping[str, Any], root: Path) -> ModelSpec:
    """The model with dotted keys set, such as ``{"train.optimizer.lr": 1e-4}``.

    Raises ValueError that names every key that does not exist and every value that its key
    does not allow; combinations are not checked.
    """
    plain = model.model_dump(by_alias=True, exclude_unset=True)
    for key, value in values.items():
        plain = _changed(plain, key.split("."), value)
    whole = {"models": {"model": plain}}
    sections: dict[int, type[Section]] = {}
    try:
        spec = Spec.model_validate(whole, context={"root": root, "sections": sections})
    except ValidationError as error:
        found = explain(error, whole, sections)
        lines = [f"{dotted(path[2:])}: {message}" for message, path in found]
        raise ValueError("; ".join(lines)) from None
    return spec.models["model"]


def _changed(plain: Any, keys: list[str], value: Any) -> Any:
    if not keys:
        return list(value) if isinstance(value, tuple) else value
    below = plain if isinstance(plain, dict) else {}
    return below | {keys[0]: _changed(below.get(keys[0]), keys[1:], value)}


def check_space(spec: Spec) -> Iterator[Finding]:
    """Every key and value of every model's search space that could not be trained."""
    for name, model in spec.models.items():
        if model.tune is not None:
            for message, path in _findings(model, model.tune.space, spec.root):
                yield message, ("models", name, "tune", *path)


def _findings(model: ModelSpec, space: Space, root: Path) -> Iterator[Finding]:
    for key, dimension in space.items():
        path = ("space", key)
        found = [*_conditions(key, space)]
        broken = any([*_conditions(other, space)] for other in _needed(key, space))
        found += [] if broken else _at_odds(dimension, space)
        yield from ((message, (*path, "when")) for message in found)
        section, _, below = key.partition(".")
        if section not in SEARCHED:
            yield f"cannot be searched; allowed: keys of {', '.join(SEARCHED)}", path
        elif section == "train" and below.split(".")[0] in PLACEMENT:
            yield "says how a model is trained, not what comes out: all trials would be one", path
        elif not broken and not found:
            yield from ((message, path) for message in _values(model, key, dimension, space, root))
    assert model.tune is not None
    for at, point in enumerate(model.tune.points):
        for key, value in point.items():
            if key not in space:
                yield "is not in space" + did_you_mean(key, space), ("points", at, key)
            elif not holds(space[key], value):
                yield f"{show(value)} is outside of its space", ("points", at, key)


def _values(
    model: ModelSpec, key: str, dimension: Dimension, space: Space, root: Path
) -> Iterator[str]:
    given, known = _given(dimension, space), {message for message, _ in available(model)}
    for value in dimension.corners():
        try:
            changed = with_values(model, given | {key: value}, root)
            yield from (message for message, _ in available(changed) if message not in known)
        except ValueError as error:
            text = str(error).removeprefix(f"{key}: ")
            if text.startswith(("unknown key", "train.", "data.")) and "unknown key" in text:
                yield text  # the same for every value
                return
            yield text if text.startswith(show(value)) else f"{show(value)}: {text}"


def _given(dimension: Dimension, space: Space) -> dict[str, Any]:
    """Values of other keys under which a dimension applies."""
    return {key: values[0] for key, values in _required(dimension, space).items()}


def _required(dimension: Dimension, space: Space) -> dict[str, tuple[Value, ...]]:
    """All keys that a dimension depends on, and the values that each may have; () is none."""
    required: dict[str, tuple[Value, ...]] = {}
    todo = [dimension]
    while todo:
        for key, wanted in todo.pop().when.items():
            allowed = _alternatives(wanted)
            required[key] = tuple(v for v in required.get(key, allowed) if v in allowed)
            todo.append(space[key])
    return required


def _alternatives(wanted: Value) -> tuple[Value, ...]:
    return tuple(wanted) if isinstance(wanted, tuple | list) else (wanted,)


def _conditions(key: str, space: Space) -> Iterator[str]:
    for other, wanted in space[key].when.items():
        if other not in space:
            yield f'"{other}" is not in space' + did_you_mean(other, space)
            continue
        if key in _needed(other, space):
            yield f'"{other}" depends on "{key}" itself'
        for value in _alternatives(wanted) or (None,):
            if not holds(space[other], value):
                yield f'"{other}" can never be {show(value)}'
            elif space[other].kind in ("uniform", "log"):
                yield f'"{other}" is a range, which is never just {show(value)}; list its values'


def _at_odds(dimension: Dimension, space: Space) -> list[str]:
    """Conditions that hold one by one, but never together."""
    return [
        f'can never hold: "{key}" would have to have two values at once'
        for key, values in _required(dimension, space).items()
        if not values
    ]


def _needed(key: str, space: Space) -> set[str]:
    """The key and all that it depends on."""
    needed, todo = set[str](), [key]
    while todo:
        each = todo.pop()
        if each in space and each not in needed:
            needed.add(each)
            todo += space[each].when
    return needed


def holds(dimension: Dimension, value: Any) -> bool:
    """Whether a value can come out of a dimension."""
    if dimension.choice is not None:
        return any(type(each) is type(value) and each == value for each in dimension.choice)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    whole = dimension.integer or dimension.log_integer
    if isinstance(whole, Range):
        return value in range(whole.min, whole.max + 1)
    low, high = dimension.corners()
    return bool(low <= value <= high)
