import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.spec import parse_model
from jobs.domains.files import DataError
from jobs.domains.records import Bad, Record, RecordPreparation, describe_table, pieces
from jobs.domains.records import preparation as module
from jobs.domains.records.catalog import parse_time

SHARED = Path(__file__).parents[3] / "shared" / "data" / "text"


class Texts(RecordPreparation):
    """The smallest task: a row keeps a number that its text ends with."""

    suffixes = frozenset({".csv", ".tsv", ".txt"})

    def read(self, source, start=0, stop=None) -> Iterator[Record | Bad]:
        return self.read_rows(source, "text", start, stop)

    def describe(self, source) -> dict[str, Any]:
        return describe_table(source, self.data.encoding)

    def task_settings(self) -> dict[str, Any]:
        return {}

    def learn(self, records: Callable[[], Iterator[Record]], folder: Path, report) -> None:
        self.learned = [record.content for record in records()]

    def rows(self, records, labels) -> pa.RecordBatch:
        numbers = [int(str(r.content).split()[-1]) for r in records]
        return pa.record_batch({"number": pa.array(numbers), "label": pa.array(labels)})


class Prepared:
    """All that `jobs.prepare` would have made."""

    def __init__(self, folder: Path, **data: Any) -> None:
        model = {"domain": "text", "task": "classification", "data": {"source": "a.csv"} | data}
        for key in ("source", "split"):
            value = model["data"].get(key)
            if isinstance(value, str):
                model["data"][key] = str(folder / value)
        split = model["data"].get("split", {})
        for part in ("validation", "test"):
            if str(split.get(part, "")).endswith(".csv"):
                split[part] = str(folder / split[part])
        task = self.task = Texts(parse_model(model))
        sources = task.sources()
        inspections = [json.loads(json.dumps(task.inspect(source))) for source in sources]
        self.manifest = task.plan(inspections)
        self.told: list[str] = []
        task.fit(folder / "processor", self.told.append)
        self.labels = json.loads((folder / "processor" / "labels.json").read_text())
        self.rows: dict[str, list[tuple[int, str]]] = {
            s: [] for s in ("train", "validation", "test")
        }
        copy = pickle.loads(pickle.dumps(task))
        for split_name, rows in task.pack(
            b for i in range(task.num_pieces) for b in copy.encode(i)
        ):
            pairs = zip(rows["number"].to_pylist(), rows["label"].to_pylist(), strict=True)
            self.rows[split_name] += [(number, self.labels[label]) for number, label in pairs]

    def numbers(self, split: str) -> list[int]:
        return [number for number, _ in self.rows[split]]


def write(path: Path, rows: list[tuple], header: str = "text,label") -> None:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def plain(count: int, start: int = 0) -> list[tuple]:
    return [(f"text number {i}", "ab"[i % 2]) for i in range(start, start + count)]


def test_every_record_is_on_one_side_with_its_label(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", plain(200))
    found = Prepared(tmp_path)
    assert [len(found.rows[s]) for s in found.rows] == [160, 20, 20]
    assert sorted(n for s in found.rows for n in found.numbers(s)) == list(range(200))
    assert all(label == "ab"[n % 2] for rows in found.rows.values() for n, label in rows)
    assert found.manifest["labels"]["a"] == {"train": 80, "validation": 10, "test": 10}
    assert found.task.counts()["train"]["rows"] == 160
    assert found.numbers("train") == sorted(found.numbers("train"))
    assert len(found.task.learned) == 160
    assert found.told == []


def test_pieces_and_files_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.csv", plain(200))
    whole = Prepared(tmp_path)
    write(tmp_path / "b1.csv", plain(90, 110))
    write(tmp_path / "b2.csv", plain(110))
    monkeypatch.setattr(pieces, "PIECE_RECORDS", 7)
    monkeypatch.setattr(pieces, "PIECES", 9)
    monkeypatch.setattr(module, "BLOCK_RECORDS", 3)
    parts = Prepared(tmp_path, source=[str(tmp_path / "b1.csv"), str(tmp_path / "b2.csv")])
    assert parts.task.num_pieces == 9
    assert {s: sorted(rows) for s, rows in parts.rows.items()} == {
        s: sorted(rows) for s, rows in whole.rows.items()
    }


def test_bad_rows_are_counted_by_cause_and_told(tmp_path: Path) -> None:
    rows = plain(300)
    rows[100:104] = [("  ", "a"), ("text 0", " "), ("lonely",), ("text 1", "a", "more")]
    write(tmp_path / "a.csv", rows)
    found = Prepared(tmp_path, max_bad="2%")
    assert found.manifest["dropped"] == {
        "empty": 1,
        "no label": 1,
        "wrong number of columns": 2,
    }
    assert found.manifest["examples"][0] == f"{tmp_path}/a.csv:102: empty"
    assert found.told == [
        "left out 4 of 300 records: 2 wrong number of columns, 1 empty, 1 no label"
    ]
    with pytest.raises(DataError, match=r"4 of 300 records cannot be used") as error:
        Prepared(tmp_path)
    assert f"{tmp_path}/a.csv:104: wrong number of columns (1, not 2)" in str(error.value)


def test_equal_records_are_kept_once(tmp_path: Path) -> None:
    rows = plain(100) + plain(30) + [("text number 7", "b"), ("text number 9", "a")] * 2
    write(tmp_path / "a.csv", rows)
    found = Prepared(tmp_path)
    assert sorted(n for s in found.rows for n in found.numbers(s)) == list(range(100))
    assert found.manifest["duplicates"] == 34
    assert found.manifest["contradictions"] == 1  # 7 is "b" anyway, 9 is "b" twice and "a" twice
    assert found.told == ["34 duplicates kept once; 1 of them with contradicting labels"]


def test_held_back_files_are_kept_whole(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", plain(100))
    write(tmp_path / "v.csv", [*plain(20), ("text 200", "b")])
    found = Prepared(tmp_path, split={"validation": "v.csv", "test": "10%"})
    assert found.numbers("validation") == [*range(20), 200]
    assert found.manifest["duplicates"] == 20
    assert sorted(found.numbers("train") + found.numbers("test")) == list(range(20, 100))
    assert len(found.numbers("test")) == 8


def test_unknown_labels_of_held_back_files_are_bad(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", plain(300))
    write(tmp_path / "v.csv", [*plain(20, 300), ("text 400", "c")])
    found = Prepared(tmp_path, split={"validation": "v.csv"})
    assert found.labels == ["a", "b"]
    assert found.manifest["dropped"] == {"label outside the known set": 1}
    assert found.manifest["examples"] == [
        f'{tmp_path}/v.csv:22: label outside the known set ("c" is not in training)'
    ]
    assert 400 not in found.numbers("validation")


def test_a_group_is_never_on_two_sides(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2], f"customer {i // 7}") for i in range(700)]
    write(tmp_path / "a.csv", rows, "text,label,customer")
    found = Prepared(tmp_path, split={"by": "customer"})
    sides = [{n // 7 for n in found.numbers(s)} for s in found.rows]
    assert not (sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])
    assert [len(found.rows[s]) for s in found.rows] == pytest.approx([560, 70, 70], abs=8)
    write(tmp_path / "v.csv", [("text 900", "a", "customer 3")], "text,label,customer")
    with pytest.raises(DataError, match=r"1 values of 'customer' are on two sides: .*v\.csv:2"):
        Prepared(tmp_path, split={"by": "customer", "validation": "v.csv", "test": 0})


def test_the_newest_are_held_back(tmp_path: Path) -> None:
    rows = [(f"text {i}", "ab"[i % 2], f"2026-0{1 + i // 28}-{1 + i % 28:02}") for i in range(100)]
    write(tmp_path / "a.csv", rows[::-1], "text,label,day")
    found = Prepared(tmp_path, split={"time": "day"})
    assert sorted(found.numbers("validation")) == list(range(80, 90))
    assert sorted(found.numbers("test")) == list(range(90, 100))
    rows[50] = ("text 50", "a", "yesterday")
    write(tmp_path / "a.csv", rows, "text,label,day")
    with pytest.raises(DataError, match=r"52: no time in 'day' \('yesterday' is neither"):
        Prepared(tmp_path, split={"time": "day"}, max_bad=0)


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("9", "10"),
        ("2026-01-02", "2026-01-02T10:00"),
        ("2026-01-02T10:00+02:00", "2026-01-02T09:00"),
    ],
)
def test_times_are_numbers_or_iso_dates(early: str, late: str) -> None:
    assert parse_time(early) < parse_time(late)
    for wrong in ("", "nan", "soon"):
        with pytest.raises(ValueError):  # noqa: PT011 - the caller words it
            parse_time(wrong)


def test_labels_are_sorted_numbers_by_value(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [(f"text {i}", i % 11) for i in range(220)])
    assert Prepared(tmp_path).labels == [str(i) for i in range(11)]
    write(tmp_path / "a.csv", [(f"text {i}", ["nan", "x", "2", "10"][i % 4]) for i in range(220)])
    assert Prepared(tmp_path).labels == ["2", "10", "nan", "x"]


NO_B = [(f"text {i}", "a") for i in range(40)]
WRONG: dict[str, tuple[list[tuple], dict[str, Any], str]] = {
    "nothing": ([], {}, "data.source holds no records"),
    "one class": (NO_B, {}, 'all 40 records have the label "a": a classifier needs two'),
    "one record": (
        [*NO_B, ("text 50", "b")],
        {},
        r'no record of "b" \(1 record of it in all\): give more',
    ),
    "all bad": ([("", "a"), ("", "b")], {}, r"no record can be used \(2 empty\)"),
    "an id": (
        [(f"text {i}", i) for i in range(40)],
        {},
        r"40 of 40 labels occur once \(.* and 35 more\): is this the column of labels",
    ),
    "two groups": (
        [(f"text {i}", "ab"[i % 2]) for i in range(40)],
        {"split": {"by": "label"}},
        "the validation part holds none of 40 records: data.split.by 'label' has too few values",
    ),
    "one time": (
        [(f"text {i}", "ab"[i % 2], 5) for i in range(40)],
        {"split": {"time": 2}, "columns": {"text": 0, "label": 1}},
        "the train part holds none of 40 records: data.split.time 2 has too few different",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_data_in_no_use_is_one_clear_error(tmp_path: Path, name: str) -> None:
    rows, data, message = WRONG[name]
    write(tmp_path / "a.csv", rows)
    if "columns" in data:
        (tmp_path / "a.csv").write_text("".join(",".join(map(str, r)) + "\n" for r in rows))
    with pytest.raises(DataError, match=message):
        Prepared(tmp_path, **data)
    assert not (tmp_path / "processor").exists()


def test_real_duplicates() -> None:
    data = {"source": str(SHARED / "sst2/train.tsv"), "columns": {"text": 0, "label": 1}}
    task = Texts(parse_model({"domain": "text", "task": "classification", "data": data}))
    planned = task.plan([task.inspect(source) for source in task.sources()])
    assert planned["duplicates"] == 8
    assert planned["labels"]["1"] == {"train": 2883, "validation": 361, "test": 361}


def test_keys_of_a_million_records_are_small() -> None:
    """A record costs the inspection about 16 characters."""
    notes = module.Notes()
    for i in range(1000):
        notes.add(bytes(8), str(i % 5), None, None)
    assert len(json.dumps(notes.dump(False, False))) < 17_000
    assert np.frombuffer(notes.digests, np.uint64).size == 1000
