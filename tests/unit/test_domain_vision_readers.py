"""Pictures and labels from every format; what is wrong with them is named."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.domains.files import DataError
from jobs.domains.records import Bad, Record
from jobs.domains.vision.preparation import PicturePreparation
from jobs.domains.vision.readers import classes_of

SHARED = Path(__file__).parents[3] / "shared/data/image"


def png(value: int, size: tuple[int, int] = (10, 10)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, value).save(file, "PNG")
    return file.getvalue()


PICTURES = {"cat/1.png": png(1), "cat/more/2.png": png(2), "dog/3.PNG": png(3)}
CLASSES = [("cat", 1), ("cat", 2), ("dog", 3)]


def preparation(*sources: Path | str, **columns: Any) -> PicturePreparation:
    split = SimpleNamespace(validation=0.1, test=0.1, by=None, time=None)
    data = SimpleNamespace(
        source=tuple(str(s) for s in sources), columns=columns, encoding="auto", split=split
    )
    network = SimpleNamespace(type="cnn", size="auto")
    return PicturePreparation(SimpleNamespace(data=data, network=network))  # type: ignore[arg-type]


def read(*sources: Path | str, **columns: Any) -> list[Record | Bad]:
    found = preparation(*sources, **columns)
    return [record for source in found.sources() for record in found.read(source)]


def seen(records: list[Record | Bad]) -> list[tuple[str | None, int]]:
    found = []
    for record in records:
        assert isinstance(record, Record), record
        assert isinstance(record.content, bytes)
        found.append((record.label, Image.open(io.BytesIO(record.content)).getpixel((0, 0))))
    return found


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_idx(path: Path, pixels: Any, labels: Any, packed: bool) -> None:
    pack: Callable[[bytes], bytes] = gzip.compress if packed else bytes
    end = ".gz" if packed else ""
    path.mkdir(exist_ok=True)
    shape = struct.pack(">IIII", 2051, *pixels.shape)
    (path / f"train-images-idx3-ubyte{end}").write_bytes(pack(shape + pixels.tobytes()))
    head = struct.pack(">II", 2049, len(labels))
    (path / f"train-labels-idx1-ubyte{end}").write_bytes(pack(head + labels.tobytes()))


def test_a_folder_is_one_source(tmp_path: Path) -> None:
    folder = write(tmp_path / "pets", PICTURES | {"cat/.hidden.png": b"", "notes.txt": b"x"})
    assert seen(read(folder)) == CLASSES
    assert len(preparation(folder).sources()) == 1
    assert seen(read(tmp_path / "pets/*/*.*")) == [CLASSES[0], CLASSES[2]]
    assert seen(read(tmp_path / "pets/cat", tmp_path / "pets/dog")) == CLASSES


def test_a_folder_tells_when_a_picture_changes(tmp_path: Path) -> None:
    folder = write(tmp_path / "pets", PICTURES)
    before = preparation(folder).sources()
    assert preparation(folder).sources() == before
    digest = preparation(folder).inspect(before[0])["sha256"]
    write(folder, {"dog/3.PNG": png(4)})
    after = preparation(folder).sources()
    assert after != before
    assert preparation(folder).inspect(after[0])["sha256"] != digest


def test_a_zip_reads_as_its_folder(tmp_path: Path) -> None:
    inside = {f"pets/{name}": content for name, content in PICTURES.items()}
    archive = write_zip(tmp_path / "a.zip", inside | {"__MACOSX/pets/cat/._1.png": b"x"})
    assert seen(read(archive)) == CLASSES
    found = preparation(archive)
    (source,) = found.sources()
    assert seen(list(found.read(source, 1, 2))) == CLASSES[1:2]


@pytest.mark.parametrize("name", ["../cat/1.png", "/cat/1.png", "a/../../b.png", "C:\\cat\\1.png"])
def test_a_zip_that_would_escape_is_refused(tmp_path: Path, name: str) -> None:
    archive = write_zip(tmp_path / "evil.zip", PICTURES | {name: png(1)})
    with pytest.raises(DataError, match=r"evil\.zip: its entry"):
        read(archive)
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


def test_a_broken_zip_is_named(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", PICTURES)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataError, match="no complete zip"):
        read(archive)


def test_bad_pictures_are_named_and_skipped(tmp_path: Path) -> None:
    bomb = b"P5 100000 100000 255\n"
    noise = np.random.default_rng(0).integers(0, 255, (30, 30), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    broken = {"dog/text.jpg": b"hello", "dog/bomb.pgm": bomb, "dog/cut.png": file.getvalue()[:500]}
    folder = write(tmp_path / "pets", PICTURES | broken | {"dog/empty.png": b"", "x.png": png(1)})
    bad = {Path(b.place).name: b.kind for b in read(folder) if isinstance(b, Bad)}
    assert bad == {
        "text.jpg": "no picture of a known format",
        "bomb.pgm": "more than 64 megapixels",
        "cut.png": "broken picture",
        "empty.png": "empty file",
        "x.png": "in no folder that names a class",
    }


@pytest.mark.parametrize("where", ["folder", "zip", "file"])
def test_a_table_of_paths(tmp_path: Path, where: str) -> None:
    table = b"file,kind\ncat/1.png,tom\ndog/3.PNG,rex\nnone.png,tom\n../up.png,rex\n"
    files = PICTURES | {"labels.csv": table}
    folder = write(tmp_path / "pets", files)
    archive = write_zip(tmp_path / "a.zip", {f"pets/{k}": v for k, v in files.items()})
    source = {"folder": folder, "zip": archive, "file": folder / "labels.csv"}[where]
    records = read(source, image="file", label="kind")
    assert seen(records[:2]) == [("tom", 1), ("rex", 3)]
    assert all(isinstance(b, Bad) and b.kind == "no such file" for b in records[2:])
    with pytest.raises(DataError, match="has no column 'image'; it has file, kind"):
        read(source)


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    plain = pa.table({"image": [png(1), png(2)], "label": [0, 1]})
    nested = pa.table(
        {"image": [{"bytes": png(1), "path": "a"}, {"bytes": None, "path": "b"}], "label": [0, 1]}
    )
    pq.write_table(plain, tmp_path / "plain.parquet")
    pq.write_table(nested, tmp_path / "nested.parquet")
    assert seen(read(tmp_path / "plain.parquet")) == [("0", 1), ("1", 2)]
    records = read(tmp_path / "nested.parquet")
    assert seen(records[:1]) == [("0", 1)]
    assert isinstance(records[1], Bad)


@pytest.mark.parametrize("packed", [True, False])
def test_idx_pairs_by_name(tmp_path: Path, packed: bool) -> None:
    pixels, labels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4), np.asarray([7, 0, 7], np.uint8)
    write_idx(tmp_path / "idx", pixels, labels, packed)
    assert seen(read(tmp_path / "idx")) == [("7", 0), ("0", 16), ("7", 32)]
    end = ".gz" if packed else ""
    names = [f"train-images-idx3-ubyte{end}", f"train-labels-idx1-ubyte{end}"]
    assert seen(read(*(tmp_path / "idx" / name for name in names)))[2] == ("7", 32)
    with pytest.raises(DataError, match="its labels are missing; put train-labels-idx1-ubyte"):
        read(tmp_path / "idx" / names[0])
    (tmp_path / "idx" / names[1]).write_bytes(b"abc")
    with pytest.raises(DataError, match=r"is no IDX file|cannot be read|not gzip"):
        read(tmp_path / "idx")


def test_idx_that_does_not_fit_its_labels(tmp_path: Path) -> None:
    write_idx(tmp_path / "idx", np.zeros((3, 4, 4), np.uint8), np.zeros(2, np.uint8), False)
    with pytest.raises(DataError, match="3 pictures, but 2 labels"):
        read(tmp_path / "idx")


def test_shared_data_are_what_they_say() -> None:
    found = preparation(SHARED / "mnist_12k")
    sources = found.sources()
    records = list(found.read(sources[0], 0, 100))
    assert [r.label for r in records[:5] if isinstance(r, Record)] == ["5", "0", "4", "1", "9"]
    found = preparation(SHARED / "cifar10_jpg/train.zip")
    records = list(found.read(found.sources()[0], 0, 3))
    assert all(isinstance(r, Record) and r.label == "airplane" for r in records)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["a/1", "b/2"], ["a", "b"]),
        (["top/a/1", "top/b/2"], ["a", "b"]),
        (["top/train/a/1", "top/train/b/2"], ["a", "b"]),
        (["train/a/1", "test/a/2", "test/b/3"], ["a", "a", "b"]),
        (["a/1", "a/deep/2", "b/deep/3"], ["a", "a", "b"]),
        (["a/1", "b/3", "2"], ["a", "b", None]),
        (["top/a/1", "top/b/3", "top/2"], ["a", "b", None]),
        (["a/1", "a/2", "a/deep/3"], ["a", "a", "a"]),
        (["only/1", "only/2"], ["only", "only"]),
        (["1", "2"], [None, None]),
    ],
)
def test_classes_are_folders(names: list[str], classes: list[str | None]) -> None:
    assert classes_of(names) == classes
