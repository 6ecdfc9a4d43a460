"""The items and users of prepared data, in Arrow files that training and serving read.

Ids stay the user's own. Items of the training part come first, the most frequent ones at the
front, and are numbered from 1; 0 fills rows up. Items that are known but were never taken in
training follow.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.domains.records.catalog import by_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

ITEMS, USERS, ABOUT = "items.arrow", "users.arrow", "events.json"
CONFIG = "config.json"
"""Sizes of the network, in the folder of a model."""
SEVERAL = 3


class Names:
    """Ids of users or of items, numbered from 1 in the order of a list."""

    def __init__(self, kind: str, ids: Sequence[str], num_trained: int) -> None:
        self.kind = kind
        self.ids = ids
        self.num_trained = num_trained
        """So many at the front occur in training."""
        self.are_numbers = all(_is_number(name) for name in ids)
        """They are given back as numbers, as they were given."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Id to its number."""
        return {name: number for number, name in enumerate(self.ids, 1)}

    def find(self, given: Any) -> int:
        """The number of an id, a text or a number; ValueError names those that are near."""
        text = str(given)
        if isinstance(given, bool) or not isinstance(given, str | int):
            raise ValueError(f"a {self.kind} is a text or a whole number, not {given!r}")
        number = self.numbers.get(text)
        if number is None:
            raise ValueError(f"unknown {self.kind} {given!r}{self._near(text)}")
        return number

    def own(self, number: int) -> str | int:
        """The id of a number, as the user writes it."""
        name = self.ids[number - 1]
        return int(name) if self.are_numbers else name

    def _near(self, text: str) -> str:
        near = difflib.get_close_matches(text, self.ids, SEVERAL, 0.6) if len(text) < 200 else []
        if not near:
            first = ", ".join(map(repr, map(self.own, range(1, min(len(self), SEVERAL) + 1))))
            return f"; there are {len(self):,}, such as {first}"
        return "; did you mean " + ", ".join(repr(self.own(self.numbers[n])) for n in near) + "?"


class Catalogue:
    """What a processor's folder knows of items and users."""

    def __init__(self, folder: Path) -> None:
        """ValueError where the folder holds none."""
        try:
            about = json.loads((folder / ABOUT).read_text("utf-8"))
            items, users = (_read(folder / name) for name in (ITEMS, USERS))
        except FileNotFoundError as error:
            raise ValueError(f"{error.filename}: is missing; prepare the data again") from None
        self.about: dict[str, Any] = about
        self.items = Names("item", items["id"].to_pylist(), about["trained_items"])
        self.users = Names("user", users["id"].to_pylist(), about["trained_users"])
        self.counts: NDArray[np.int64] = items["count"].to_numpy().astype(np.int64)
        """Events of each item in training, [items]."""
        self.titles: list[str] = items["title"].to_pylist()
        self.genres: list[list[str]] = items["genres"].to_pylist()
        self._tokens = items["tokens"].combine_chunks()
        self._taken = users["items"].combine_chunks()
        self._rated = users["ratings"].combine_chunks()

    def taken(self, user: int) -> NDArray[np.int32]:
        """The items of a user by number, the oldest first."""
        items: NDArray[np.int32] = self._taken[user - 1].values.to_numpy()
        return items

    def rated(self, user: int) -> NDArray[np.float32]:
        """The ratings of `taken`; NaN where the data has none."""
        ratings: NDArray[np.float32] = self._rated[user - 1].values.to_numpy()
        return ratings

    @property
    def tokens(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Titles as tokens: offsets [items + 1] into all tokens, and these."""
        return self._tokens.offsets.to_numpy(), self._tokens.values.to_numpy()

    def title(self, item: int) -> str:
        """What a person calls an item: its title, with its id."""
        if not 1 <= item <= len(self.items):
            return "an item that is not in the catalogue"
        name, title = self.items.own(item), self.titles[item - 1]
        return f"{title} ({name})" if title and title != name else str(name)


def write_catalogue(
    folder: Path, items: dict[str, list[Any]], users: dict[str, Any], about: dict[str, Any]
) -> None:
    """`items`: id, title, genres, tokens, count; `users`: id, items, ratings."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [("id", pa.string()), ("title", pa.string()), ("genres", pa.list_(pa.string()))]
    kinds += [("tokens", pa.list_(pa.int32())), ("count", pa.int64())]
    _write(folder / ITEMS, pa.table(items, schema=pa.schema(kinds)))
    lists = [("items", pa.list_(pa.int32())), ("ratings", pa.list_(pa.float32()))]
    _write(folder / USERS, pa.table(users, schema=pa.schema([("id", pa.string()), *lists])))
    (folder / ABOUT).write_text(json.dumps(about, ensure_ascii=False), "utf-8")


def copy_catalogue(pretrained: Path, folder: Path) -> None:
    """The catalogue of a saved model, as its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (ITEMS, USERS, ABOUT):
        shutil.copyfile(pretrained / name, folder / name)


def digest_of_catalogue(pretrained: Path) -> str:
    """SHA-256 in hex of what decides the numbers of a saved model."""
    total = hashlib.sha256()
    for name in (ITEMS, USERS, ABOUT):
        total.update((pretrained / name).read_bytes())
    return total.hexdigest()


def read_config(pretrained: Path) -> SimpleNamespace:
    """The sizes that a saved model's network has."""
    return SimpleNamespace(**json.loads((pretrained / CONFIG).read_text("utf-8")))


def split_genres(text: str) -> list[str]:
    """Genres divided by "|" or ","; "(no genres listed)" is none."""
    mark = "|" if "|" in text else ","
    parts = [part.strip() for part in text.split(mark)]
    return [part for part in parts if part and part != "(no genres listed)"]


def order_items(names: Sequence[str], counts: NDArray[np.int64]) -> list[int]:
    """Places of items by falling count, then by name (numbers by value)."""
    return sorted(range(len(names)), key=lambda i: (-int(counts[i]), by_value(names[i])))


def _is_number(name: str) -> bool:
    return name.lstrip("-").isdecimal() and name.isascii() and str(int(name)) == name


def _read(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _write(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
