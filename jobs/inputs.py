"""What a model is to answer: the records of a user's files, each with the columns it came with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from jobs.domains import albums
from jobs.domains.albums import PICTURES, TABLES, Album, open_album
from jobs.domains.encodings import decode, read_blocks, resolve
from jobs.domains.files import DataError, Source, open_source
from jobs.domains.recommendation.layouts import NAMES, names_of
from jobs.domains.records import Bad, read_table
from jobs.domains.records.delimited import split_lines
from jobs.domains.records.tables import SUFFIXES as ROWS
from jobs.domains.records.tables import form_of, open_parquet
from jobs.domains.speech.sounds import SUFFIXES as SOUNDS

MOST_BYTES = 256 << 20
MEDIA = {"image": PICTURES, "audio": SOUNDS}
ANY_NAME = "inputs"
"""The column of this name holds the inputs, whatever the model's own is called."""


@dataclass(frozen=True)
class Wanted:
    """Whose inputs are looked for."""

    domain: str
    task: str
    columns: Mapping[str, str | int] = field(default_factory=dict)
    """Roles to columns, as the spec names them."""
    encoding: str = "auto"

    @property
    def role(self) -> str:
        """What an input is: text, image, audio, or an event of a user."""
        if self.domain == "vision":
            return "image"
        if self.domain == "recommendation":
            return "user"
        return "audio" if self.task == "recognition" else "text"

    @property
    def suffixes(self) -> frozenset[str]:
        """Of the files that can hold inputs."""
        media = MEDIA.get(self.role)
        return media | {".zip", ".parquet"} if media else ROWS


@dataclass(frozen=True, slots=True)
class Input:
    """A record that is not read to its end yet."""

    cells: Mapping[str, Any]
    """Its own columns."""
    load: Callable[[], Any]
    """Gives the "inputs" of a request; ValueError where the record holds none."""


def find_inputs(place: str, wanted: Wanted, store: Any = None) -> list[Source]:
    """The files behind a path, folder, glob or URI."""
    return albums.find_sources([place], wanted.suffixes, store=store)


def read_inputs(source: Source, wanted: Wanted) -> Iterator[Input]:
    """All records of a file in order; DataError where it cannot be used."""
    if source.is_album or source.suffix == ".zip":
        with open_album(source) as album:
            yield from _of_album(album, wanted)
    elif source.suffix == ".txt" and wanted.role == "text":
        yield from _of_lines(source, wanted.encoding)
    else:
        yield from _of_table(source, wanted, None)


def count_inputs(source: Source, wanted: Wanted) -> int:
    """How many records there are; pictures and sounds are not read for it."""
    if source.suffix == ".parquet" and not source.is_album:
        with open_parquet(source) as file:
            return int(file.metadata.num_rows)
    return sum(1 for _ in read_inputs(source, wanted))


def table_of(inputs: Sequence[Input], schema: pa.Schema | None = None) -> pa.Table:
    """The own columns of records; what has no one type becomes JSON."""
    rows = [dict(each.cells) for each in inputs]
    names = list(schema.names) if schema else list(dict.fromkeys(n for row in rows for n in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    arrays = [_array(columns[name], schema.field(name).type if schema else None) for name in names]
    return pa.table(dict(zip(names, arrays, strict=True)))


def schema_of(source: Source) -> pa.Schema | None:
    """The types that a file fixes; None where they are those of its values."""
    if source.suffix != ".parquet" or source.is_album:
        return None
    with open_parquet(source) as file:
        return file.schema_arrow


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        written = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values]
        return pa.array(written, pa.string())


def _of_lines(source: Source, encoding: str) -> Iterator[Input]:
    """Each line that is not blank."""
    found = resolve(source, encoding, by_rows=True)
    with open_source(source) as file:
        for line, _ in split_lines(decode(source.path, read_blocks(file), found, by_rows=True)):
            if line.strip():
                yield Input({"text": line}, partial(_same, line))


def _of_album(album: Album, wanted: Wanted) -> Iterator[Input]:
    """Pictures or sounds: those that a table names, else each file."""
    tables = album.tables()
    for name in tables:
        inside = Source(f"{album.path}/{name}", content=album.read(name, MOST_BYTES))
        top = PurePosixPath(name).parent
        yield from _of_table(inside, wanted, partial(_file, album, top))
    if tables:
        return
    suffixes = MEDIA.get(wanted.role, frozenset())
    names = [n for n in album.names if PurePosixPath(n.lower()).suffix in suffixes]
    if not names:
        raise DataError(f"{album.path}: holds none of {', '.join(sorted(suffixes | TABLES))}")
    for name in names:
        yield Input({"path": name}, partial(album.read, name, MOST_BYTES))


def _file(album: Album, top: PurePosixPath, path: str) -> bytes:
    """A file that a table names by its path from the table's own folder."""
    name = str(top / path.strip().replace("\\", "/"))
    if name not in album.names:
        raise ValueError(f"no such file: {path}")
    return album.read(name, MOST_BYTES)


def _of_table(
    source: Source, wanted: Wanted, opened: Callable[[str], bytes] | None
) -> Iterator[Input]:
    if form_of(source) == "jsonl":
        yield from _of_json(source, wanted, opened)
        return
    columns = _columns(source, wanted)
    roles = roles_of(list(columns), wanted, source.path)
    for row in read_table(source, columns, wanted.encoding, raw=list(columns)):
        if isinstance(row, Bad):
            yield Input({}, partial(_fail, f"{row.place}: {row.cause}"))
        else:
            yield Input(row.cells, partial(inputs_of, row.cells, roles, opened))


def _columns(source: Source, wanted: Wanted) -> dict[str, str | int]:
    """All columns of a table under their own names."""
    names = names_of(source, wanted.encoding)
    given = wanted.columns.values()
    if form_of(source) != "parquet" and given and all(isinstance(c, int) for c in given):
        return {str(place): place for place in range(len(names))}  # no line of names
    return {name: name for name in names}


def _of_json(
    source: Source, wanted: Wanted, opened: Callable[[str], bytes] | None
) -> Iterator[Input]:
    """Each line; a column is looked for in the line itself, as lines may differ."""
    roles: dict[str, str] = {}
    found = resolve(source, wanted.encoding, by_rows=True)
    with open_source(source) as file:
        lines = split_lines(decode(source.path, read_blocks(file), found, by_rows=True))
        for number, (line, _) in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                assert isinstance(row, dict)
            except (ValueError, AssertionError):
                yield Input({}, partial(_fail, f"{source.path}:{number}: is no JSON object"))
                continue
            roles = roles or roles_of(list(row), wanted, source.path)
            yield Input(row, partial(inputs_of, row, roles, opened))


def roles_of(names: Sequence[str], wanted: Wanted, path: str) -> dict[str, str]:
    """Which columns make an input; DataError names those that there are."""
    if wanted.role != "user":
        return {wanted.role: _column(names, wanted, wanted.role, path)}
    if wanted.task == "next-item" and "history" in names:
        return {"history": "history"}
    roles = ("user",) if wanted.task == "next-item" else ("user", "item")
    return {role: _column(names, wanted, role, path) for role in roles}


def _column(names: Sequence[str], wanted: Wanted, role: str, path: str) -> str:
    given = wanted.columns.get(role)
    if isinstance(given, int) and given < len(names):
        return names[given]
    plain = {name.lower().replace("_", ""): name for name in reversed(names)}
    known = [plain[name] for name in NAMES.get(role, ()) if name in plain]
    candidates = [str(given), role, *known, *([ANY_NAME] if wanted.role == role else [])]
    found = next((name for name in candidates if name in names), None)
    if found is None and len(names) == 1 and wanted.task != "rating":
        found = names[0]
    if found is None:
        raise DataError(
            f"{path}: which column is the {role}? It has {', '.join(names[:20]) or 'no columns'}; "
            f"name it: --set models.MODEL.data.columns.{role}=COLUMN"
        )
    return found


def inputs_of(
    cells: Mapping[str, Any], roles: Mapping[str, str], opened: Callable[[str], bytes] | None
) -> Any:
    """The "inputs" of a row; ValueError where a cell is empty or not of its kind."""
    values = {role: cells.get(column) for role, column in roles.items()}
    empty = [roles[role] for role, value in values.items() if value is None]
    if empty:
        raise ValueError(f'no "{empty[0]}"')
    if "text" in values:
        return values["text"] if isinstance(values["text"], str) else str(values["text"])
    if "history" in values:
        return {"history": _history(values["history"])}
    if "user" in values:
        return values
    (content,) = values.values()
    content = content.get("bytes") if isinstance(content, dict) else content  # Hugging Face's
    if isinstance(content, str) and opened is not None:
        return opened(content)
    if not isinstance(content, bytes):
        raise ValueError(f'"{next(iter(roles.values()))}" holds no bytes of a file')
    return content


def _history(value: Any) -> list[Any]:
    """A list, or a text that is one in JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('"history" is no list; write it as JSON: ["a", "b"]') from None
    if not isinstance(value, list):
        raise ValueError('"history" is no list')
    return value


def _same(value: Any) -> Any:
    return value


def _fail(why: str) -> Any:
    raise ValueError(why)
