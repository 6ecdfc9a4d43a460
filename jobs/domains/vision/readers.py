"""Pictures and their labels from folders, zips, tables of paths, IDX, parquet, and scikit-learn."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np

from jobs.domains.albums import PICTURES, Album, open_album
from jobs.domains.files import DataError, Source, explain, open_source
from jobs.domains.records.record import Bad, Record
from jobs.domains.records.tables import Row, read_table
from jobs.domains.vision.decoding import MAX_BYTES, encode_grey

SUFFIXES = PICTURES | {".zip", ".parquet", "-ubyte", ".idx"}
BUILTINS = ("digits",)
PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev"})
"""Names of folders that are no class where they are all that stands at one level."""
IMAGES, LABELS = 2051, 2049
"""Magic numbers of IDX files of bytes with three dimensions and with one."""
Columns = Mapping[str, str | int]
Reading = Callable[[], Record | Bad]


def read_pictures(
    source: Source,
    partner: Source | None,
    columns: Columns,
    encoding: str,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[Record | Bad]:
    """Records start <= i < stop of a source in fixed order, not decoded yet.

    `partner`: an IDX file's labels, without which it has no records.
    """
    if source.is_builtin:
        yield from islice(_digits(source), start, stop)
    elif source.suffix == ".zip":
        with open_album(source) as album:
            found = _of_album(album, columns, encoding)
            yield from (each() for each in islice(found, start, stop))
    elif source.suffix == ".parquet":
        yield from _of_parquet(source, columns, start, stop)
    elif is_idx(source):
        yield from islice(_of_idx(source, partner), start, stop)
    else:
        raise DataError(
            f"{source.path}: is none of the formats of pictures; give a folder with a sub-folder "
            "for each class, a zip of one, a CSV of paths and labels, parquet or IDX"
        )


def is_idx(source: Source) -> bool:
    return source.suffix in ("-ubyte", ".idx")


def partners(sources: Sequence[Source]) -> dict[str, Source | None]:
    """IDX files of pictures to their labels; the files of labels themselves to None.

    By name: train-images-idx3-ubyte.gz goes with train-labels-idx1-ubyte.gz. DataError for
    pictures without labels.
    """
    found: dict[str, Source | None] = {}
    idx = [source for source in sources if is_idx(source)]
    labels = {_pair(s): s for s in idx if "label" in _name(s)}
    for source in idx:
        if "label" in _name(source):
            found[source.path] = None
        elif _pair(source) in labels:
            found[source.path] = labels[_pair(source)]
        else:
            raise DataError(
                f"{source.path}: its labels are missing; put "
                f"{_name(source).replace('images', 'labels').replace('idx3', 'idx1')} beside it, "
                "or name both in data.source"
            )
    return found


def _name(source: Source) -> str:
    return source.path.rpartition("/")[2].lower()


def _pair(source: Source) -> tuple[str, str]:
    """Equal for pictures and their labels."""
    name = _name(source).removesuffix(".gz")
    for word in ("images", "image", "labels", "label", "idx3", "idx1"):
        name = name.replace(word, "")
    return source.part, name


def _of_album(album: Album, columns: Columns, encoding: str) -> Iterator[Reading]:
    """What reads each record: those that are not wanted are not read."""
    tables = album.tables()
    if tables:
        for name in tables:
            yield from _of_table(album, name, columns, encoding)
        return
    names = [name for name in album.names if PurePosixPath(name.lower()).suffix in PICTURES]
    if not names:
        raise DataError(f"{album.path}: holds no picture; known are {', '.join(sorted(PICTURES))}")
    for name, label in zip(names, classes_of(names), strict=True):
        place = f"{album.path}/{name}" if album.path.endswith(".zip") else name
        if label is None:
            yield partial(Bad, "in no folder that names a class", place)
        else:
            yield partial(_entry, album, name, label, place)


def classes_of(names: Sequence[str]) -> list[str | None]:
    """The class of each picture: its folder below what all share, and below train, test, ...

    Where most pictures lie beside the folders, the folder of all of them; None for the few that
    lie beside folders that name classes.
    """
    paths = [PurePosixPath(name).parts[:-1] for name in names]
    depth, last = 0, None
    while True:
        level = [path[depth] if len(path) > depth else None for path in paths]
        kinds = set(level)
        if 2 * level.count(None) >= len(level):
            return [last] * len(paths)
        if len(kinds) > 1 and not kinds <= PARTS:
            return level
        last = level[0] if len(kinds) == 1 else last
        depth += 1


def _of_table(album: Album, table: str, columns: Columns, encoding: str) -> Iterator[Reading]:
    """Rows of a table whose paths start at its folder; none leads out of it."""
    top = PurePosixPath(table).parent
    known = set(album.names)
    place = album.path if album.path.endswith(table) else f"{album.path}/{table}"
    inside = Source(place, content=album.read(table, MAX_BYTES))
    for row in read_table(inside, columns, encoding):
        if isinstance(row, Bad):
            yield partial(Bad, row.cause, row.place)
            continue
        name = str(top / row.cells["image"].strip().replace("\\", "/"))
        if name not in known:
            yield partial(Bad, f"no such file: {row.cells['image']}", row.place)
        else:
            yield partial(_entry, album, name, row.cells["label"], row.place, row)


def _entry(album: Album, name: str, label: str, place: str, row: Row | None = None) -> Record | Bad:
    if album.size(name) > MAX_BYTES:
        return Bad(f"more than {MAX_BYTES >> 20} MiB", place)
    try:
        content = album.read(name, MAX_BYTES + 1)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        return Bad(f"cannot be read: {error}", place)
    except Exception as error:  # zlib and zipfile have errors of their own for broken entries
        return Bad(f"cannot be unpacked: {error}", place)
    if len(content) > MAX_BYTES:
        return Bad(f"more than {MAX_BYTES >> 20} MiB", place)
    return _record(content, label, place, row)


def _record(content: bytes, label: str, place: str, row: Row | None) -> Record:
    cells = row.cells if row is not None else {}
    return Record(content, label, cells.get("group"), cells.get("time"), place)


def _of_parquet(
    source: Source, columns: Columns, start: int, stop: int | None
) -> Iterator[Record | Bad]:
    """Bytes, or as Hugging Face writes them: {"bytes", "path"}."""
    for row in read_table(source, columns, "auto", start, stop, raw=("image",)):
        if isinstance(row, Bad):
            yield row
            continue
        image: Any = row.cells["image"]
        content = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(content, bytes):
            yield Bad("holds no bytes of a picture", row.place)
        else:
            yield _record(content, row.cells["label"], row.place, row)


def _of_idx(source: Source, partner: Source | None) -> Iterator[Record | Bad]:
    """MNIST's format (yann.lecun.com/exdb/mnist): big-endian sizes, then bytes."""
    if partner is None:
        return
    try:
        with open_source(partner) as file:
            (count,) = _header(file, partner, LABELS, 1)
            labels = file.read(count)
        with open_source(source) as file:
            number, height, width = _header(file, source, IMAGES, 3)
            if number != count or len(labels) != count:
                raise DataError(
                    f"{source.path}: {number:,} pictures, but {count:,} labels in {partner.path}"
                )
            for i in range(number):
                content = file.read(height * width)
                if len(content) < height * width:
                    raise EOFError
                pixels = np.frombuffer(content, np.uint8).reshape(height, width)
                place = f"{source.path}:picture {i + 1}"
                yield Record(encode_grey(pixels), str(labels[i]), place=place)
    except (OSError, EOFError) as error:
        raise explain(source.path, error) from error


def _header(file: IO[bytes], source: Source, magic: int, dimensions: int) -> tuple[int, ...]:
    content = file.read(4 + 4 * dimensions)
    if len(content) < 4 + 4 * dimensions or struct.unpack(">I", content[:4])[0] != magic:
        raise DataError(f"{source.path}: is no IDX file of bytes in {dimensions} dimensions")
    return struct.unpack(f">{dimensions}I", content[4:])


def _digits(source: Source) -> Iterator[Record]:
    """1,797 handwritten digits of 8 x 8 pixels, values 0 to 16."""
    name = source.path.partition(":")[2]
    if name not in BUILTINS:
        raise DataError(f"{source.path}: is not built in; there is builtin:{BUILTINS[0]}")
    from sklearn.datasets import load_digits  # slow to import

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    for i, (picture, label) in enumerate(zip(pixels, found.target, strict=True)):
        yield Record(encode_grey(picture), str(label), place=f"{source.path}:{i + 1}")
