"""Whole files are answered in parts; what is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.request import WrongRequestError
from cluster.spec import StorageSpec
from cluster.storage import open_storage
from jobs.answers import answer_cells, answer_types
from jobs.inputs import Wanted, count_inputs, find_inputs
from jobs.outputs import Output
from jobs.predictions import Answerer, Plan, predict, read_pieces
from tests.fakes import FakeLoaded

WANTED = Wanted("text", "classification")


class Small(Plan):
    """A plan of short pieces."""

    size = 4


def make(folder: Path, target: str, rows: int = 10, version: str = "labels@1") -> Small:
    source = folder / "new.csv"
    texts = ["bad" if n == 3 else "boom" if n == 5 else "x" * (n + 1) for n in range(rows)]
    if not source.exists():
        source.write_text("id,text\n" + "".join(f"{n},{t}\n" for n, t in enumerate(texts)))
    storage = StorageSpec(url=str(folder / "store"))
    sources = tuple(find_inputs(str(source), WANTED))
    counts = tuple(count_inputs(each, WANTED) for each in sources)
    output = Output(str(folder / target), storage)
    return Small(open_storage(storage, "acme"), version, WANTED, sources, counts, output)


class Here:
    """Answers pieces in this process, up to so many of them."""

    def __init__(self, most: int = 100) -> None:
        self.most = most
        self.pieces: list[int] = []

    def __call__(self, plan: Plan, missing: set[int]) -> Iterator[Mapping[str, int]]:
        answerer = Answerer(plan, lambda plan: FakeLoaded())
        for row in read_pieces(plan, 0, missing):
            if len(self.pieces) == self.most:
                raise KeyboardInterrupt
            self.pieces.append(row["piece"])
            found = answerer({name: [value] for name, value in row.items()})
            yield {name: values[0] for name, values in found.items()}


@pytest.mark.parametrize("target", ["answers.parquet", "answers.jsonl"])
def test_answers_stand_beside_the_inputs_own_columns(tmp_path: Path, target: str) -> None:
    plan = make(tmp_path, target)
    assert predict(plan, Here()) == {"records": 10, "failed": 2}
    if target.endswith("parquet"):
        rows = pq.read_table(tmp_path / target).to_pylist()
    else:
        rows = [json.loads(line) for line in (tmp_path / target).read_text().splitlines()]
    assert [row["id"] for row in rows] == [str(n) for n in range(10)]
    assert rows[0] == {
        "id": "0",
        "text": "x",
        "prediction": "x",
        "prediction_score": 1.0,
        "prediction_error": None,
    }
    assert "good text" in rows[3]["prediction_error"]
    assert rows[5]["prediction_error"] == "the network failed"
    assert rows[4]["prediction"] == "xxxxx"  # was in one batch with the one that failed
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"new.csv", target})


def test_what_was_cut_off_goes_on(tmp_path: Path) -> None:
    first, second = Here(most=1), Here()
    with pytest.raises(KeyboardInterrupt):
        predict(make(tmp_path, "answers.parquet"), first)
    assert not (tmp_path / "answers.parquet").exists()
    assert predict(make(tmp_path, "answers.parquet"), second) == {"records": 10, "failed": 2}
    assert (first.pieces, second.pieces) == ([0], [1, 2])
    assert pq.read_table(tmp_path / "answers.parquet").num_rows == 10


def test_parts_of_another_version_are_not_mixed_in(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(make(tmp_path, "answers.parquet"), Here(most=1))
    with pytest.raises(WrongRequestError, match="labels@1"):
        predict(make(tmp_path, "answers.parquet", version="labels@2"), Here())


def test_a_folder_keeps_its_parts(tmp_path: Path) -> None:
    plan = make(tmp_path, "answers")
    predict(plan, Here())
    names = sorted(path.name for path in (tmp_path / "answers").iterdir())
    assert names == ["_predictions.json", *(f"part-00000{n}.parquet" for n in range(3))]
    assert plan.output.is_complete()
    assert pq.read_table(tmp_path / "answers").num_rows == 10


def test_types_that_differ_between_parts_are_joined(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "a.parquet"), StorageSpec(url=str(tmp_path)))
    output.claim({"version": "a@1"})
    for piece, values in enumerate(([1, 2], [None, None], ["x", "y"])):
        output.write(piece, pa.table({"n": values, f"only{piece}": [1, 1]}), 0)
    output.finish(3)
    found = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert found["n"] == ["1", "2", None, None, "x", "y"]
    assert found["only1"] == [None, None, 1, 1, None, None]


CELLS: list[tuple[tuple[str, str], Any, Any, Any]] = [
    (("text", "generation"), {"generated_text": "a"}, "a", None),
    (("vision", "classification"), [{"label": "cat", "score": 0.5}], "cat", 0.5),
    (("speech", "recognition"), {"text": "yes"}, "yes", None),
    (("speech", "synthesis"), {"audio": "UklGRg==", "sampling_rate": 1}, b"RIFF", None),
    (("recommendation", "next-item"), [{"item": 7, "score": 2.0}], ["7"], [2.0]),
    (("recommendation", "rating"), {"score": 4.5}, 4.5, None),
    (("text", "masked-lm"), [{"score": 0.5, "token": 1, "token_str": "a"}], ["a"], [0.5]),
]


@pytest.mark.parametrize(("kind", "answer", "prediction", "score"), CELLS)
def test_every_task_has_its_columns(
    kind: tuple[str, str], answer: Any, prediction: Any, score: Any
) -> None:
    types = answer_types(*kind, is_list=False)
    cells = answer_cells(answer, pa.types.is_list(types["prediction"]))
    assert cells["prediction"] == prediction
    assert cells.get("prediction_score") == score
    for name, value in cells.items():
        assert pa.array([value], types[name]).to_pylist() == [value]
