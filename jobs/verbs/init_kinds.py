"""What a source is: which domain and task its files are for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from cluster.spec.models import AVAILABLE
from jobs.domains import albums, files
from jobs.domains.albums import PICTURES
from jobs.domains.encodings import decode, read_blocks, resolve
from jobs.domains.files import BUILTIN, DataError, Source, open_source
from jobs.domains.text.documents import SUFFIXES as TEXTS
from jobs.domains.vision.readers import SUFFIXES as VISION
from jobs.verbs.init_columns import Roles, Sample, recording_roles, roles_of, sample_table

SOUNDS = frozenset({".wav", ".flac", ".mp3", ".ogg", ".m4a"})
TABLES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"})
BUILTINS = {
    "docstrings": ("text", "classification"),
    "digits": ("vision", "classification"),
    "imports": ("recommendation", "next-item"),
    "spoken": ("speech", "recognition"),
}
HEAD_LINES = 200


@dataclass(frozen=True)
class Kind:
    """A domain and task, with the columns where the source is a table."""

    domain: str
    task: str
    roles: Roles | None = None
    sample: Sample | None = None
    is_layout: bool = False
    """Several files that belong together, in a layout that the domain knows."""


def kind_of(place: str) -> Kind:
    """Looks at a path, folder, glob, URI or builtin:NAME.

    Raises DataError where it holds nothing known, or what this version cannot train.
    """
    kind = _kind(place)
    if (kind.domain, kind.task) not in AVAILABLE:
        known = ", ".join(" ".join(pair) for pair in AVAILABLE)
        raise DataError(
            f"{place}: looks like {kind.domain} {kind.task}, which is not available in this "
            f"version; available: {known}"
        )
    return kind


def _kind(place: str) -> Kind:
    if place.startswith(BUILTIN):
        domain, task = BUILTINS.get(place.removeprefix(BUILTIN), ("text", "generation"))
        return Kind(domain, task)
    found = files.find_sources([place], TEXTS | VISION | SOUNDS | TABLES | {".zip"})
    counts = Counter(_group(source) for source in found)
    for source in found:
        if source.suffix == ".zip":
            with albums.open_album(source) as album:
                counts.update(_group(Source(name)) for name in album.names)
    if counts["sound"] > counts["picture"]:
        return _of_sounds([source for source in found if _group(source) == "table"])
    if counts["picture"]:
        return Kind("vision", "classification")
    if counts["archive"]:
        raise DataError(f"{place}: holds no pictures; unpack it and name the folder")
    tables = [source for source in found if _group(source) == "table"]
    if not tables and len(found) <= HEAD_LINES and all(_is_table(source) for source in found):
        tables = found
    if not tables:
        return Kind("text", "generation")
    return _of_tables(place, tables)


def _of_sounds(tables: Sequence[Source]) -> Kind:
    """Recordings, with the columns of the table beside them where it names them."""
    sample = sample_table(tables[0]) if len(tables) == 1 else None
    found = recording_roles(sample) if sample is not None else None
    return Kind("speech", "recognition", found, sample if found else None)


def _of_tables(place: str, tables: Sequence[Source]) -> Kind:
    samples = [sample_table(source) for source in tables]
    kinds = [_of_sample(sample) for sample in samples]
    for task in ("rating", "next-item", "recognition"):
        if unusual := [kind for kind in kinds if kind.task == task]:
            return replace(unusual[0], is_layout=len(tables) > 1)
    if len({tuple(column.key for column in sample.columns) for sample in samples}) > 1:
        told = "; ".join(f"{s.source.path}: {s.told()}" for s in samples[:3])
        raise DataError(f"{place}: its tables differ in their columns ({told}); name one of them")
    if not kinds[0].domain:
        raise DataError(
            f"{place}: has no column of texts; it has {samples[0].told()}. Tables of numbers are "
            "not for this version"
        )
    return Kind(kinds[0].domain, kinds[0].task, kinds[0].roles, samples[0])


def _of_sample(sample: Sample) -> Kind:
    roles = roles_of(sample)
    if "user" in roles.columns and "item" in roles.columns:
        task = "rating" if "rating" in roles.columns else "next-item"
        return Kind("recommendation", task, roles, sample)
    if "audio" in roles.columns:
        return Kind("speech", "recognition", roles, sample)
    if "image" in roles.columns:
        return Kind("vision", "classification", roles, sample)
    if "text" not in roles.columns:
        return Kind("", "", roles, sample)
    task = "classification" if "label" in roles.columns else "generation"
    return Kind("text", task, roles, sample)


def _group(source: Source) -> str:
    if source.suffix in SOUNDS:
        return "sound"
    if source.suffix in PICTURES or source.suffix in ("-ubyte", ".idx"):
        return "picture"
    if source.suffix in TABLES:
        return "table"
    return "archive" if source.suffix == ".zip" else "text"


def _is_table(source: Source) -> bool:
    """Whether a file named like a text holds rows: the same number of tabs in every line."""
    if source.suffix not in (".txt", ".text", ""):
        return False
    encoding = resolve(source, "auto")
    with open_source(source) as file:
        head = "".join(islice(decode(source.path, read_blocks(file), encoding), 1))
    lines = [line for line in head.split("\n")[:HEAD_LINES] if line.strip()]
    tabs = {line.count("\t") for line in lines}
    return len(lines) > 1 and len(tabs) == 1 and tabs != {0}
