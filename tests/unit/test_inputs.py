"""What a model is to answer, from every kind of file that users have."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.domains.files import DataError
from jobs.inputs import Input, Wanted, count_inputs, find_inputs, read_inputs, table_of

TEXTS = Wanted("text", "classification")
PICTURES = Wanted("vision", "classification")
FILMS = Wanted("recommendation", "next-item")
RATINGS = Wanted("recommendation", "rating")


def read(place: Path, wanted: Wanted) -> list[Input]:
    sources = find_inputs(str(place), wanted)
    found = [each for source in sources for each in read_inputs(source, wanted)]
    assert len(found) == sum(count_inputs(source, wanted) for source in sources)
    return found


def loaded(place: Path, wanted: Wanted) -> list[Any]:
    sources = find_inputs(str(place), wanted)
    return [each.load() for source in sources for each in read_inputs(source, wanted)]


def test_tables_keep_all_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text('id,body,queue\n007,"my card, twice",billing\n008,where is it,\n009,broken\n')
    found = read(path, Wanted("text", "classification", {"text": "body"}))
    assert dict(found[0].cells) == {"id": "007", "body": "my card, twice", "queue": "billing"}
    assert [each.load() for each in found[:2]] == ["my card, twice", "where is it"]
    with pytest.raises(ValueError, match="wrong number of columns"):
        found[2].load()


def test_the_column_is_the_models_own_then_its_roles_then_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("whatever\na text\n")
    (tmp_path / "role.csv").write_text("id,text\n1,a text\n")
    (tmp_path / "inputs.tsv").write_text("id\tinputs\n1\ta text\n")
    (tmp_path / "none.csv").write_text("id,words\n1,a text\n")
    for name in ("one.csv", "role.csv", "inputs.tsv"):
        assert loaded(tmp_path / name, TEXTS) == ["a text"], name
    with pytest.raises(DataError, match=r"which column is the text\? It has id, words"):
        read(tmp_path / "none.csv", TEXTS)
    headless = Wanted("text", "classification", {"text": 1, "label": 0})
    assert loaded(tmp_path / "none.csv", headless) == ["words", "a text"]


def test_lines_json_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert loaded(tmp_path / "a.txt", TEXTS) == ["one", "two"]
    rows = [{"text": "one", "n": 1}, {"text": "two", "n": [2]}, {"n": 3}]
    lines = "\n".join(map(json.dumps, rows)) + "\nno json\n"
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    found = read(tmp_path / "a.jsonl.gz", TEXTS)
    assert [each.load() for each in found[:2]] == ["one", "two"]
    for each, why in ((found[2], 'no "text"'), (found[3], "4: is no JSON object")):
        with pytest.raises(ValueError, match=why):
            each.load()
    assert table_of(found).column("n").to_pylist() == ["1", "[2]", "3", None]
    table = pa.table({"text": ["one", None], "day": pa.array([1, 2], pa.date32())})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", TEXTS)
    assert found[0].load() == "one"
    assert table_of(found, table.schema).schema.field("day").type == pa.date32()


def test_pictures_of_folders_zips_and_tables(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    (folder / "more").mkdir(parents=True)
    (folder / "b.png").write_bytes(b"b")
    (folder / "more" / "a.JPG").write_bytes(b"a")
    (folder / "notes.txt").write_text("nothing")
    found = read(folder, PICTURES)
    assert [(each.cells["path"], each.load()) for each in found] == [
        ("new/b.png", b"b"),
        ("new/more/a.JPG", b"a"),
    ]
    assert loaded(folder / "b.png", PICTURES) == [b"b"]
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
        archive.writestr("x/b.png", b"b")
    assert loaded(tmp_path / "new.zip", PICTURES) == [b"b"]
    (folder / "list.csv").write_text("image,who\nmore/a.JPG,me\nmissing.png,you\n../x.png,it\n")
    found = read(folder / "list.csv", PICTURES)
    assert (found[0].cells["who"], found[0].load()) == ("me", b"a")
    for each in found[1:]:
        with pytest.raises(ValueError, match="no such file"):
            each.load()


def test_pictures_inside_parquet(tmp_path: Path) -> None:
    images = [{"bytes": b"a", "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", PICTURES)
    assert found[0].load() == b"a"
    with pytest.raises(ValueError, match="holds no bytes"):
        found[1].load()


def test_users_histories_and_items(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("userId,age\n7,30\n")
    assert loaded(tmp_path / "users.csv", FILMS) == [{"user": "7"}]
    (tmp_path / "h.csv").write_text('who;history\nme;"[""a"", 3]"\nyou;nothing\n')
    first, second = read(tmp_path / "h.csv", FILMS)
    assert first.load() == {"history": ["a", 3]}
    with pytest.raises(ValueError, match="write it as JSON"):
        second.load()
    (tmp_path / "pairs.csv").write_text("uid,movieId\n7,12\n")
    assert loaded(tmp_path / "pairs.csv", RATINGS) == [{"user": "7", "item": "12"}]
