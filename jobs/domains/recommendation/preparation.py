"""Preparing events: read, checked, put in order, divided, numbered; for both tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.domains import Block
from jobs.domains.files import DataError, Source, digest_of, find_sources
from jobs.domains.recommendation import builtin
from jobs.domains.recommendation.catalogue import (
    Catalogue,
    copy_catalogue,
    digest_of_catalogue,
    order_items,
    read_config,
    split_genres,
    write_catalogue,
)
from jobs.domains.recommendation.events import Notes, columns_of, events_of
from jobs.domains.recommendation.history import (
    SPLITS,
    TRAIN,
    History,
    check,
    join,
    on_scale,
    sides_of,
)
from jobs.domains.recommendation.layouts import NAMES, SUFFIXES, wanted
from jobs.domains.records import Bad
from jobs.domains.records.dropping import Dropped
from jobs.domains.text.tokenizing import fit_vocabulary, tokenizer_settings
from jobs.domains.text.vocabulary import STREAM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster.spec import ModelSpec
    from cluster.storage import Storage

PIECE_USERS = 4096


class EventPreparation:
    """See `jobs.domains.Preparation`; a task subclasses it and gives `rows` and what is needed."""

    suffixes = SUFFIXES
    needs_rating: bool
    keeps_last: bool
    """Of several events of a user with one item the last counts, else the first."""
    default_last: int | None
    """Events of each user that each held-back part takes; None takes its share of them."""

    def __init__(
        self, model: ModelSpec, pretrained: Path | None = None, store: Storage | None = None
    ) -> None:
        self.model, self.data, self.store = model, model.data, store
        self.pretrained = pretrained
        sizes: Any = read_config(pretrained) if pretrained else model.network
        self.network = sizes
        """Sizes of the network; of a model whose numbers are kept, those that it was saved with."""
        self.last = model.data.split.last or self.default_last
        self.has_content = self.network.type == "two-tower" and pretrained is None
        self.history: History
        self.sides: NDArray[np.int8]
        by = model.data.split.by
        plain = str(by).lower().replace("_", "")
        if by is not None and by != model.data.columns.get("user") and plain not in NAMES["user"]:
            raise DataError(f"data.split.by: {by!r} is not the user, which alone can be split by")

    def rows(self, begin: int, end: int) -> dict[str, pa.RecordBatch]:
        """Each split's rows of the events begin <= i < end, which are all of some users."""
        raise NotImplementedError

    def sources(self) -> list[Source]:
        found = find_sources(self.data.source, self.suffixes, store=self.store)
        for part in ("validation", "test"):
            place = getattr(self.data.split, part)
            if isinstance(place, str):
                found += find_sources([place], self.suffixes, part, self.store)
        self._sources = wanted(found)
        return self._sources

    def settings(self) -> dict[str, Any]:
        split = self.data.split
        parts = {"validation": split.validation, "test": split.test}
        shares = {p: "files" if isinstance(share, str) else share for p, share in parts.items()}
        return {
            "split": shares | {"by": split.by, "time": split.time, "last": self.last},
            "seed": self.data.seed,
            "columns": dict(self.data.columns),
            "encoding": self.data.encoding,
            "tokenizer": tokenizer_settings(self.model, None) if self.has_content else None,
            "pretrained": digest_of_catalogue(self.pretrained) if self.pretrained else None,
        }

    def inspect(self, source: Source) -> dict[str, Any]:
        notes, dropped = Notes(), Dropped()
        columns = columns_of(self.data)
        for found in events_of(source, columns, self.data.encoding, self.needs_rating):
            if isinstance(found, Bad):
                dropped.add(found)
            else:
                notes.add(found)
        return {
            "sha256": builtin.digest() if source.is_builtin else digest_of(source),
            "dropped": dict(dropped.counts),
            "examples": dropped.examples,
            **notes.dump(),
        }

    def plan(self, inspections: Sequence[dict[str, Any]]) -> dict[str, Any]:
        dropped = Dropped()
        for found in inspections:
            dropped.include(found["dropped"], found["examples"])
        parts = [source.part for source in self._sources]
        self.history = join(parts, inspections, self.keeps_last)
        if self.needs_rating:
            self.history = on_scale(self.history, dropped)
        history = self.history
        if not len(history):
            raise DataError(_nothing(dropped))
        counts = dropped.check(len(history) + history.duplicates, self.data.max_bad)
        split = self.data.split
        by_user = split.by is not None
        self.sides = sides_of(history, split, self.data.seed, self.last, by_user)
        check(history, self.sides, split)
        self._number(inspections)
        marks: Counter[str] = Counter()
        for found in inspections:
            marks.update(found["marks"])
        self._told = self._tell(dropped, marks, inspections)
        return {
            "dropped": counts,
            "examples": dropped.examples,
            "duplicates": history.duplicates,
            "contradictions": history.contradictions,
            "milliseconds": marks["milliseconds"],
            "events": len(history),
            "users": len(history.users),
            "items": len(history.items),
            "trained_items": self.num_trained,
            "trained_users": self.num_trained_users,
            "users_of_one_event": int((np.diff(history.starts) == 1).sum()),
        }

    @property
    def num_pieces(self) -> int:
        return -(-len(self.history.users) // PIECE_USERS)

    def fit(self, folder: Path, report: Callable[[str], None]) -> None:
        for line in self._told:
            report(line)
        if self.pretrained is not None:
            copy_catalogue(self.pretrained, folder)
            return
        titles = [self._about.get(name, ("", ""))[0] for name in self.item_ids]
        genres = [self._about.get(name, ("", ""))[1] for name in self.item_ids]
        items = {
            "id": self.item_ids,
            "title": titles,
            "genres": [split_genres(text) for text in genres],
            "tokens": self._tokens(titles, folder, report),
            "count": self.counts_of_items,
        }
        order = self._by_user_number()
        sizes = np.diff(self.history.starts)[self._users]
        offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
        taken = self.item_numbers[self.history.item][order]
        given = self.history.rating[order].astype(np.float32)
        users = {
            "id": self.user_ids,
            "items": pa.ListArray.from_arrays(offsets, pa.array(taken)),
            "ratings": pa.ListArray.from_arrays(offsets, pa.array(given)),
        }
        write_catalogue(folder, items, users, self.about())

    def encode(self, piece: int) -> Iterator[Block]:
        starts = self.history.starts
        first = piece * PIECE_USERS
        begin, end = starts[first], starts[min(first + PIECE_USERS, len(starts) - 1)]
        for split, rows in self.rows(int(begin), int(end)).items():
            if rows.num_rows:
                yield Block(split, rows, {"rows": rows.num_rows})

    def pack(self, blocks: Iterable[Block]) -> Iterator[tuple[str, pa.RecordBatch]]:
        self._counts = {split: Counter(rows=0) for split in SPLITS}
        for block in blocks:
            self._counts[block.split].update(block.counts)
            yield block.split, block.rows

    def counts(self) -> dict[str, dict[str, int]]:
        split = self.data.split
        for side, share in enumerate((1.0, split.validation, split.test)):
            if share and not self._counts[SPLITS[side]]["rows"]:
                raise DataError(
                    f"the {SPLITS[side]} part has no user with two events in order, so there is "
                    "nothing to predict: give more events of each user"
                )
        events = np.bincount(self.sides, minlength=len(SPLITS))
        return {
            name: {**self._counts[name], "events": int(events[side])}
            for side, name in enumerate(SPLITS)
        }

    def about(self) -> dict[str, Any]:
        """What the domain must know besides the catalogue."""
        return {"trained_items": self.num_trained, "trained_users": self.num_trained_users}

    def _number(self, inspections: Sequence[dict[str, Any]]) -> None:
        """Items and users in the order of `Catalogue`; the arrays then hold these numbers."""
        history = self.history
        about = [found["about"] for found in inspections]
        self._about = {name: texts for own in reversed(about) for name, texts in own.items()}
        trained = self.sides == TRAIN
        counts = np.bincount(history.item[trained], minlength=len(history.items))
        order = np.asarray(order_items(history.items, counts))
        self.item_ids = [history.items[place] for place in order]
        self.counts_of_items = counts[order]
        self.num_trained = int((counts > 0).sum())
        self.item_numbers = np.empty(len(order), np.int32)
        self.item_numbers[order] = np.arange(1, len(order) + 1)
        seen = np.zeros(len(history.users), np.bool_)
        seen[history.user[trained]] = True
        users = np.argsort(~seen, kind="stable")
        self.user_ids = [history.users[place] for place in users]
        self.num_trained_users = int(seen.sum())
        self.user_numbers = np.empty(len(users), np.int32)
        self.user_numbers[users] = np.arange(1, len(users) + 1)
        self._users = users
        if self.pretrained is not None:
            self._keep_numbers(Catalogue(self.pretrained))

    def _keep_numbers(self, known: Catalogue) -> None:
        """Those of a model that exists; items it lacks come behind its last, users are 0."""
        history, outside = self.history, len(known.items) + 1
        items = [known.items.numbers.get(name, outside) for name in history.items]
        users = [known.users.numbers.get(name, 0) for name in history.users]
        self.item_numbers, self.user_numbers = (
            np.asarray(items, np.int32),
            np.asarray(users, np.int32),
        )
        self.num_trained = known.items.num_trained
        self.num_trained_users = known.users.num_trained

    def _by_user_number(self) -> NDArray[np.int64]:
        """Places of all events, by their user's number and then the oldest first."""
        return np.argsort(self.user_numbers[self.history.user], kind="stable")

    def _tokens(self, titles: list[str], folder: Path, report: Callable[[str], None]) -> list[Any]:
        """Titles as tokens of a vocabulary learned from those of the training part."""
        known = [title for title in titles[: self.num_trained] if title]
        if not self.has_content or not known:
            return [[] for _ in titles]
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = fit_vocabulary(self.model, None, STREAM, known, folder, report)
        return [vocabulary.encode(title.lower()) for title in titles]

    def _tell(
        self, dropped: Dropped, marks: Counter[str], inspections: Sequence[dict[str, Any]]
    ) -> list[str]:
        history = self.history
        lines = [dropped.line(len(history))] if dropped.total else []
        if history.duplicates:
            lines.append(f"{history.duplicates:,} events repeat an item of their user: kept once")
        if marks["milliseconds"]:
            lines.append(f"{marks['milliseconds']:,} times in milliseconds or finer: as seconds")
        kinds = [all(map(str.isdecimal, found["items"])) for found in inspections if found["items"]]
        if len(set(kinds)) > 1 and len(kinds) > 1:
            lines.append(
                "warning: item ids are numbers in one file and texts in another; they are "
                "compared as text, letter by letter"
            )
        untrained = len(history.items) - self.num_trained
        if untrained:
            lines.append(f"{untrained:,} of {len(history.items):,} items never occur in training")
        return lines


def list_type(kind: Any = None) -> pa.DataType:
    """Lists of item numbers, or of another type."""
    return pa.list_(pa.field("item", kind or pa.int32(), nullable=False))


def _nothing(dropped: Dropped) -> str:
    if not dropped.total:
        return "data.source holds no events; check that it is the file that you mean"
    return f"data.source: no event can be used ({dropped}); the first:{dropped.told()}"
