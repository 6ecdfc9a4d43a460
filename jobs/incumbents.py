"""The held-back records of one version, as rows for another: how an incumbent is judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.spec import parse_model
from cluster.storage import Storage
from jobs.bundles import Version, fetch_bundle
from jobs.domains import Columns, Domain
from jobs.prepare import prepare
from jobs.prepared import PreparedData, held_back_split
from jobs.scored import BATCH_SIZE, Scored, own
from jobs.session import say


def of_other(storage: Storage, version: Version, domain: Domain, other: Version) -> Scored:
    """The split that decides on `other`, for `version`, under the digest of the other's data.

    Rows are taken as they are where both versions read them alike. Else the files are read again
    through the version's own processor. ValueError where these have changed since.
    """
    theirs = PreparedData(storage, other.bundle["data"])
    split = held_back_split(theirs.manifest)
    if split is None:
        return own(storage, other)  # which tells that nothing was held back
    mine = PreparedData(storage, version.bundle["data"])
    if _is_alike(mine.manifest, theirs.manifest):
        return Scored(split, theirs.digest, own(storage, other).batches)
    place = other.bundle["spec"]["data"]["split"].get(split)
    if isinstance(place, str) and not place.endswith("%"):
        return Scored(split, theirs.digest, domain.read([place], BATCH_SIZE))
    return Scored(split, theirs.digest, _prepared_anew(storage, version, domain, other, split))


def _is_alike(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether two preparations write equal rows for equal records."""
    return bool(_processor(mine) == _processor(theirs) and mine["columns"] == theirs["columns"])


def _processor(manifest: dict[str, Any]) -> dict[str, str]:
    files = manifest["files"].items()
    return {name: file["sha256"] for name, file in files if name.startswith("processor/")}


def _prepared_anew(
    storage: Storage, version: Version, domain: Domain, other: Version, split: str
) -> Iterator[Columns]:
    """The other's data, prepared as if a network were to start from this version."""
    content = {**other.bundle["spec"], "network": {"pretrained": version.name}}
    folder = fetch_bundle(storage, version)
    prepared = prepare(parse_model(content), storage, say, folder)
    known = PreparedData(storage, other.bundle["data"]).manifest["sources"]
    if _sources(prepared.manifest["sources"]) != _sources(known):
        raise ValueError(
            f"the data of {other.name} has changed since it was trained, so {version.name} cannot "
            f"be scored on it; train {other.model} again, or keep the test part in files of its "
            "own (data.split.test)"
        )
    data = PreparedData(storage, prepared.digest)
    yield from _relabelled(own_rows(data, split), data, domain)


def own_rows(data: PreparedData, split: str) -> Iterator[Columns]:
    """A split in batches."""
    rows = data.rows(split)
    for start in range(0, len(rows) if rows else 0, BATCH_SIZE):
        assert rows is not None
        yield rows.slice(start, start + BATCH_SIZE)


def _relabelled(
    batches: Iterator[Columns], data: PreparedData, domain: Domain
) -> Iterator[Columns]:
    """Rows whose labels count in the domain's order; without those it has no label for."""
    path = data.processor() / "labels.json"
    if domain.labels is None or not path.is_file():
        yield from batches
        return
    names = data.storage.parse_json(str(path), path.read_bytes())
    places = {name: place for place, name in enumerate(domain.labels)}
    table: NDArray[np.int64] = np.asarray([places.get(name, -1) for name in names], np.int64)
    for rows in batches:
        labels = table[rows["label"]]
        kept = labels >= 0
        if kept.any():
            yield {**{k: values[kept] for k, values in rows.items()}, "label": labels[kept]}


def _sources(sources: list[dict[str, Any]]) -> list[Any]:
    return [(source["sha256"], source["part"]) for source in sources]
