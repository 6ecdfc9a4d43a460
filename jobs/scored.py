"""What a version is scored on: its own held-back split, that of another version, or any files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.storage import Storage
from jobs.bundles import Version
from jobs.domains import Columns, Domain, suffixes_of
from jobs.domains.files import BUILTIN, digest_of, find_sources
from jobs.prepared import HELD_BACK, PreparedData, held_back_split
from jobs.rows import Rows

BATCH_SIZE = 16
# A baseline learns its few numbers from this much of the data as well as from all of it.
BASELINE_BATCHES = 20_000


@dataclass(frozen=True)
class Scored:
    """Records to score, in batches that are read once."""

    split: str
    """The name of the held-back split, or the place that was named."""
    data: str
    """SHA-256 in hex of the data that the records are from."""
    batches: Iterator[Columns]
    held_back: bool = True

    @property
    def name(self) -> str:
        """File name of the evaluation: one per data digest."""
        return f"{self.data[:12]}-{self.split}" if self.held_back else self.data[:12]


def own(storage: Storage, version: Version) -> Scored:
    """The split that the version's own data held back; ValueError where there is none."""
    prepared = PreparedData(storage, version.bundle["data"])
    split = held_back_split(prepared.manifest)
    rows = prepared.rows(split) if split else None
    if split is None or rows is None:
        raise ValueError(f"{version.name} was trained without held-back data; name some: --data")
    return Scored(split, prepared.digest, _all(rows))


def named(storage: Storage, version: Version, domain: Domain, place: str) -> Scored:
    """Files of the user's, read through the version's own processor."""
    digest = _digest(storage, version, place)
    return Scored(place, digest, domain.read([place], BATCH_SIZE), held_back=False)


def training(
    storage: Storage, version: Version, split: str
) -> tuple[Iterator[Columns], Iterator[Columns]] | None:
    """Batches from all over the training rows and the split, for a baseline."""
    if split not in HELD_BACK:
        return None
    prepared = PreparedData(storage, version.bundle["data"])
    return _spread(prepared.rows("train")), _spread(prepared.rows(split))


def _digest(storage: Storage, version: Version, place: str) -> str:
    """SHA-256 in hex over the digests of the files, in their order."""
    if place.startswith(BUILTIN):
        return hashlib.sha256(place.encode()).hexdigest()
    suffixes = suffixes_of(version.bundle["domain"], version.bundle["task"])
    sources = find_sources([place], suffixes, store=storage)
    digests = [digest_of(source) for source in sources]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _all(rows: Rows) -> Iterator[Columns]:
    for start in range(0, len(rows), BATCH_SIZE):
        yield rows.slice(start, start + BATCH_SIZE)


def _spread(rows: Rows | None) -> Iterator[Columns]:
    """Batches from all over the split, at most BASELINE_BATCHES of them."""
    size = len(rows) if rows is not None else 0
    stride = max(BATCH_SIZE, size // BASELINE_BATCHES)
    for start in range(0, size, stride):
        assert rows is not None
        yield rows.slice(start, start + BATCH_SIZE)


def record_of(rows: Columns, place: int) -> Columns:
    """One row of a batch, a copy; lists without what filled them up to the longest."""
    record = {name: column[place : place + 1].copy() for name, column in rows.items()}
    for name in rows:
        length = record.get(f"{name}_length")
        if length is not None:
            record[name] = record[name][:, : int(length[0])]
    return record
