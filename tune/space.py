"""The search space of a spec: which keys are active, how values are drawn, all of a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.spec.grammar import Range
from cluster.spec.space import holds
from cluster.spec.tune import Dimension

Space = Mapping[str, Dimension]
Values = dict[str, Any]


def ordered(space: Space) -> list[str]:
    """The keys, each after those that it depends on."""
    done: list[str] = []
    while len(done) < len(space):
        done += [k for k, d in space.items() if k not in done and set(d.when) <= set(done)]
    return done


def is_active(dimension: Dimension, values: Mapping[str, Any]) -> bool:
    """Whether a key applies beside the values chosen so far."""
    for key, wanted in dimension.when.items():
        allowed = wanted if isinstance(wanted, tuple | list) else (wanted,)
        if key not in values or values[key] not in allowed:
            return False
    return True


def at(dimension: Dimension, share: float) -> Any:
    """The value at a share 0 <= share < 1 of a dimension, even in its own scale."""
    low, high = (dimension.corners()[0], dimension.corners()[-1])
    if dimension.choice is not None:
        return dimension.choice[int(share * len(dimension.choice))]
    if dimension.log:
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    if isinstance(dimension.integer, Range):
        return low + int(share * (high - low + 1))
    if isinstance(dimension.log_integer, Range):
        edges = math.log(low), math.log(high + 1)
        return min(high, int(math.exp(edges[0] + share * (edges[1] - edges[0]))))
    return low + share * (high - low)


def grid(space: Space) -> Iterator[Values]:
    """All combinations in a fixed order; ValueError where a key has no end of values."""
    keys = ordered(space)
    endless = [key for key in keys if space[key].kind in ("uniform", "log")]
    if endless:
        raise ValueError(
            f"tune.search: grid needs lists or whole numbers, and {endless[0]} is a range; "
            "list its values, or search at random"
        )
    seen = set()
    for combination in itertools.product(*(_all(space[key]) for key in keys)):
        values: Values = {}
        for key, value in zip(keys, combination, strict=True):
            if is_active(space[key], values):
                values[key] = value
        name = repr(values)
        if name not in seen:  # keys that do not apply make equal points
            seen.add(name)
            yield values


def grid_size(space: Space) -> int:
    """How many points a grid has."""
    return sum(1 for _ in grid(space))


def _all(dimension: Dimension) -> tuple[Any, ...]:
    if dimension.choice is not None:
        return dimension.choice
    low, high = dimension.corners()
    return tuple(range(low, high + 1))


def plain(value: Any) -> Any:
    """A value as the log gives it back: JSON knows no tuples."""
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value


def place_of(dimension: Dimension, value: Any) -> int:
    """The place of a value in a list."""
    assert dimension.choice is not None
    return [plain(each) for each in dimension.choice].index(plain(value))


def contains(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether values are a point of the space: the keys that apply, and no others."""
    for key in ordered(space):
        active = is_active(space[key], values)
        if active != (key in values) or (active and not _holds(space[key], values[key])):
            return False
    return set(values) <= set(space)


def _holds(dimension: Dimension, value: Any) -> bool:
    if dimension.choice is None:
        return holds(dimension, value)
    return any(
        type(each) is type(plain(value)) and each == plain(value)
        for each in map(plain, dimension.choice)
    )
