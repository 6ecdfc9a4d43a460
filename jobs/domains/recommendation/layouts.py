"""What a file of events or of items looks like: MovieLens's own layouts, or a table with names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from jobs.domains.encodings import decode, read_blocks, resolve
from jobs.domains.files import DataError, Source, explain, open_source
from jobs.domains.records import Bad, Row, describe_table, read_table
from jobs.domains.records.delimited import dialect_of, read_cells, split_lines
from jobs.domains.records.tables import open_parquet

SUFFIXES = frozenset(
    {".csv", ".tsv", ".txt", ".dat", ".data", ".item", ".jsonl", ".ndjson", ".parquet"}
)
NAMES = {
    "user": ("user", "userid", "uid", "customer", "customerid", "reviewerid"),
    "item": ("item", "itemid", "iid", "movieid", "product", "productid", "asin"),
    "rating": ("rating", "ratings", "stars", "overall", "score"),
    "time": ("time", "timestamp", "date", "datetime", "unixreviewtime"),
    "title": ("title", "name"),
    "genres": ("genres", "genre", "categories", "category"),
}
"""Column names that say their role, in lower case and without "_"."""
RATINGS = frozenset({"ratings.csv", "ratings.dat", "u.data"})
FILMS = frozenset({"movies.csv", "movies.dat", "u.item"})
_GENRES = """unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy
Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"""
GENRES_100K = _GENRES.split()
"""The 0 or 1 columns at the end of a line of u.item (MovieLens 100K)."""
EVENT_ROLES = ("user", "item", "rating", "time", "title", "genres")
POSITIONS = dict(zip(EVENT_ROLES[:4], range(4), strict=True))


@dataclass(frozen=True)
class Layout:
    """How a file is read."""

    form: str
    """table, "::" (MovieLens 1M and 10M) or "|" (the films of MovieLens 100K)."""
    columns: Mapping[str, str | int]
    """Role to column."""

    @property
    def has_events(self) -> bool:
        """Users and items; else it tells of items only."""
        return "user" in self.columns


def wanted(sources: Sequence[Source]) -> list[Source]:
    """Without what a MovieLens folder holds beside ratings and films (tags, links, a readme)."""
    folders = {_folder(s.path) for s in sources if _name(s) in RATINGS and not s.named}
    return [
        source
        for source in sources
        if source.named or _folder(source.path) not in folders or _name(source) in RATINGS | FILMS
    ]


def layout_of(source: Source, columns: Mapping[str, str | int], encoding: str = "auto") -> Layout:
    """From the file's suffix and names; `columns` are those of the spec, which come first.

    DataError where no column says which user or which item.
    """
    try:
        if source.suffix == ".dat":
            return _double_colons(source, encoding)
        if source.suffix == ".item":
            return Layout("|", {"item": 0, "title": 1, "genres": 5})
        if source.suffix == ".data" and not columns:
            return Layout("table", POSITIONS)
        if columns and all(isinstance(column, int) for column in columns.values()):
            return Layout("table", columns)
        return _named(source, columns, names_of(source, encoding))
    except (OSError, EOFError) as error:
        raise explain(source.path, error) from error


def read_rows(source: Source, layout: Layout, encoding: str = "auto") -> Iterator[Row | Bad]:
    """Rows of a file in order, their cells by role."""
    if layout.form == "table":
        yield from read_table(source, layout.columns, encoding)
        return
    try:
        yield from _colons(source, layout, encoding) if layout.form == "::" else _films(source)
    except (OSError, EOFError) as error:
        raise explain(source.path, error) from error


def names_of(source: Source, encoding: str = "auto") -> list[str]:
    """The names of a table's columns."""
    about = describe_table(source, encoding)
    if about["form"] == "parquet":
        with open_parquet(source) as file:
            return list(file.schema_arrow.names)
    if about["form"] == "jsonl":
        with open_source(source) as file:
            for line, _ in split_lines(decode(source.path, read_blocks(file), about["encoding"])):
                try:
                    return list(json.loads(line))
                except (ValueError, TypeError):
                    continue
        return []
    dialect = dialect_of(source, about["encoding"])
    _, names = next(read_cells(source, about["encoding"], dialect), (0, []))
    return [name.strip() for name in names]


def _named(source: Source, columns: Mapping[str, str | int], names: list[str]) -> Layout:
    found: dict[str, str | int] = {}
    plain = {name.lower().replace("_", ""): name for name in reversed(names)}
    for role, known in NAMES.items():
        given = columns.get(role)
        if given is not None and (isinstance(given, int) or given in names):
            found[role] = given
        elif match := next((plain[name] for name in known if name in plain), None):
            found[role] = match
    if "item" in found and ("user" in found or "title" in found or "genres" in found):
        return Layout("table", found)
    missing = "user" if "item" in found else "item"
    asked = columns.get(missing)
    said = f"no column {asked!r}" if asked is not None else f"no column that names the {missing}"
    raise DataError(
        f"{source.path}: has {said}; it has {', '.join(names[:20]) or 'no columns'}: "
        f"name one in data.columns.{missing}, or leave the file out of data.source"
    )


def _double_colons(source: Source, encoding: str) -> Layout:
    """ratings.dat has four fields, movies.dat three, as MovieLens 1M and 10M write them."""
    line = next(islice(_lines(source, encoding), 1), "")
    fields = line.split("::")
    if len(fields) == 3:
        return Layout("::", {"item": 0, "title": 1, "genres": 2})
    if len(fields) == 4 and _is_number(fields[2]):
        return Layout("::", POSITIONS)
    raise DataError(
        f"{source.path}: its lines are neither USER::ITEM::RATING::TIME nor ITEM::TITLE::GENRES; "
        "leave it out of data.source"
    )


def _colons(source: Source, layout: Layout, encoding: str) -> Iterator[Row | Bad]:
    width = max(int(place) for place in layout.columns.values()) + 1
    for number, line in enumerate(_lines(source, encoding), 1):
        fields, at = line.split("::"), f"{source.path}:{number}"
        if not line:
            continue
        if len(fields) != width:
            yield Bad(f"wrong number of columns ({len(fields)}, not {width})", at)
        else:
            cells = {role: fields[int(place)] for role, place in layout.columns.items()}
            yield Row(cells, at)


def _films(source: Source) -> Iterator[Row | Bad]:
    for number, line in enumerate(_lines(source, "latin-1"), 1):
        fields = line.split("|")
        flags = fields[5 : 5 + len(GENRES_100K)]
        if len(flags) == len(GENRES_100K):
            own = [name for name, flag in zip(GENRES_100K, flags, strict=True) if flag == "1"]
            cells = {"item": fields[0], "title": fields[1], "genres": "|".join(own)}
            yield Row(cells, f"{source.path}:{number}")
        elif line:
            yield Bad("wrong number of columns", f"{source.path}:{number}")


def _lines(source: Source, encoding: str) -> Iterator[str]:
    """MovieLens 1M is Latin-1 and 10M UTF-8; neither says so."""
    try:
        name = resolve(source, encoding)
    except DataError:
        name = "latin-1"
    if encoding == "auto" and name == "gb18030":  # which two Latin-1 letters in a row look like
        name = "latin-1"
    with open_source(source) as file:
        for line, _ in split_lines(decode(source.path, read_blocks(file), name)):
            yield line


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _name(source: Source) -> str:
    return source.path.rpartition("/")[2].lower().removesuffix(".gz")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
