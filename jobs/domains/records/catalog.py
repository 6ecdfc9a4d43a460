"""All records of a data set as arrays: what is known of them without their content.

20 bytes a record in memory, and about 30 in the JSON of an inspection: flat enough for millions.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_LABEL, BAD = -1, -2
OWN, VALIDATION, TEST = 0, 1, 2
PARTS = ("", "validation", "test")


@dataclass
class Notes:
    """What is noted of each record of a file while it is read, in order."""

    digests: bytearray = field(default_factory=bytearray)
    labels: array[int] = field(default_factory=lambda: array("i"))
    groups: bytearray = field(default_factory=bytearray)
    times: array[float] = field(default_factory=lambda: array("d"))
    names: dict[str, int] = field(default_factory=dict)

    def add_bad(self) -> None:
        self.labels.append(BAD)
        self.digests += bytes(8)
        self.groups += bytes(8)
        self.times.append(0.0)

    def add(self, digest: bytes, label: str | None, group: str | None, time: float | None) -> None:
        known = self.names.setdefault(label, len(self.names)) if label is not None else NO_LABEL
        self.labels.append(known)
        self.digests += digest
        self.groups += digest_of(group.encode("utf-8", "surrogatepass")) if group else bytes(8)
        self.times.append(0.0 if time is None else time)

    def dump(self, has_groups: bool, has_times: bool) -> dict[str, Any]:
        """JSON for `Catalog`."""
        content = {
            "names": list(self.names),
            "labels": b64encode(self.labels).decode(),
            "digests": b64encode(self.digests).decode(),
        }
        if has_groups:
            content["groups"] = b64encode(self.groups).decode()
        if has_times:
            content["times"] = b64encode(self.times).decode()
        return content


class Catalog:
    """The records of all files, in order: arrays of one size [records]."""

    def __init__(self, parts: Sequence[str], inspections: Sequence[Mapping[str, Any]]) -> None:
        """`parts`: the split that each file was given for, "" for none."""
        names = {name for found in inspections for name in found["names"]}
        self.names = sorted(names, key=by_value)
        numbers = {name: i for i, name in enumerate(self.names)}
        labels = []
        for found in inspections:
            known = [numbers[name] for name in found["names"]]
            table = np.asarray([*known, BAD, NO_LABEL], np.int32)  # read at -2 and -1 too
            labels.append(table[_unpack(found["labels"], np.int32)])
        self.labels: NDArray[np.int32] = np.concatenate(labels)
        """Places in `names`; BAD, or NO_LABEL."""
        sizes = [len(own) for own in labels]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        """Where each file's records begin, and the number of all."""
        self.parts = np.repeat(np.asarray([PARTS.index(part) for part in parts], np.int8), sizes)
        """OWN, VALIDATION or TEST: what the file was given for."""
        self.digests: NDArray[np.uint64] = _join(inspections, "digests", np.uint64)
        self.groups: NDArray[np.uint64] = _join(inspections, "groups", np.uint64)
        """Digests of the values of `data.split.by`; empty without it."""
        self.times: NDArray[np.float64] = _join(inspections, "times", np.float64)
        """Values of `data.split.time`; empty without it."""

    def __len__(self) -> int:
        return len(self.labels)

    def renumber(self, kept: NDArray[np.bool_]) -> None:
        """Leave only the names of classes whose place in `kept` [classes] holds."""
        table = np.full(len(self.names) + 2, BAD, np.int32)
        table[:-2][kept] = np.arange(kept.sum())
        table[-1] = NO_LABEL
        self.labels = table[self.labels]
        self.names = [name for name, keep in zip(self.names, kept.tolist(), strict=True) if keep]


def digest_of(content: bytes) -> bytes:
    """8 bytes: among a million contents two are taken for equal once in 37 million data sets."""
    return hashlib.blake2b(content, digest_size=8).digest()


def by_value(name: str) -> tuple[int, float, str]:
    """Sorts numbers by their value, before all other texts."""
    try:
        value = float(name)
    except ValueError:
        return 1, 0.0, name
    return (0, value, name) if math.isfinite(value) else (1, 0.0, name)


def parse_time(value: float | str) -> float:
    """A number as it is, an ISO date as seconds since 1970 (UTC where it names no zone)."""
    try:
        number = float(value)
    except ValueError:
        moment = datetime.fromisoformat(str(value).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(number):
        raise ValueError(f"{value} is no time")
    return number


def _unpack(text: str, kind: Any) -> NDArray[Any]:
    return np.frombuffer(b64decode(text), kind)


def _join(inspections: Sequence[Mapping[str, Any]], name: str, kind: Any) -> NDArray[Any]:
    return np.concatenate([_unpack(found.get(name, ""), kind) for found in inspections])
