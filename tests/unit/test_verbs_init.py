import gzip
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cluster.request import Request
from cluster.spec import load
from cluster.spec.models import AVAILABLE
from jobs.domains import open_preparation
from jobs.domains.files import DataError
from jobs.verbs.init import init
from jobs.verbs.init_columns import roles_of, sample_table
from jobs.verbs.init_kinds import kind_of

SHARED = Path(__file__).parents[3] / "shared" / "data"
WORDS = ["printer", "bill", "late", "paid", "broken", "new", "offer", "help", "screen"]

MOSTLY_BROKEN = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(18))
MOSTLY_BROKEN += "b\n" * 10 + "a,b,c\n" * 12


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def texts(count: int = 60) -> list[tuple[str, str]]:
    chosen = random.Random(0)
    return [(" ".join(chosen.choices(WORDS, k=9)) + f" {i}", "xyz"[i % 3]) for i in range(count)]


def picture(i: int, mode: str = "L") -> bytes:
    shape = (9, 9) if mode == "L" else (9, 9, 3)
    pixels = np.random.default_rng(i).integers(0, 256, shape, np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def write_csv(path: Path) -> None:
    rows = [f'{i},"{text}, yes",{label},c{i % 9}' for i, (text, label) in enumerate(texts())]
    path.write_text("\n".join(["id,body,queue,customer", *rows, "broken"]) + "\n")


def write_tsv(path: Path) -> None:
    path.write_text("".join(f"{label}\t{text}\n" for text, label in texts()))


def write_jsonl(path: Path) -> None:
    rows = [{"review": text, "stars": i % 2} for i, (text, _) in enumerate(texts())]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path) -> None:
    found = texts()
    table = {"sentence": [text for text, _ in found], "class": [label for _, label in found]}
    pq.write_table(pa.table(table), path)


def write_sorted_gb18030(path: Path) -> None:
    rows = [f"酒店不错 服务很好 {i},{i // 30}" for i in range(60)]
    path.write_bytes("\n".join(["评论,标签", *rows, ""]).encode("gb18030"))


def write_pictures(path: Path) -> None:
    for i in range(40):
        file = path / ("cat" if i % 2 else "dog") / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(i, "RGB"))


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(40):
            archive.writestr(f"top/{'cat' if i % 2 else 'dog'}/{i}.png", picture(i))


def write_idx(path: Path) -> None:
    path.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 5, 5), np.uint8).tobytes()
    sizes = [number.to_bytes(4, "big") for number in (2051, 40, 5, 5, 2049)]
    content = b"".join(sizes[:4]) + pixels
    (path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    labels = sizes[4] + sizes[1] + bytes(i % 2 for i in range(40))
    (path / "train-labels-idx1-ubyte").write_bytes(labels)


def write_corpus(path: Path) -> None:
    path.write_text("It was a dark and stormy night, once more.\n" * 400)


SOURCES: dict[str, tuple[Any, tuple[str, str], dict[str, str | int], str]] = {
    "tickets.csv": (
        write_csv,
        ("text", "classification"),
        {"text": "body", "label": "queue"},
        "# by: customer",
    ),
    "rows.txt": (write_tsv, ("text", "classification"), {"text": 1, "label": 0}, "lstm"),
    "reviews.jsonl": (
        write_jsonl,
        ("text", "classification"),
        {"text": "review", "label": "stars"},
        "lstm",
    ),
    "a.parquet": (
        write_parquet,
        ("text", "classification"),
        {"text": "sentence", "label": "class"},
        "lstm",
    ),
    "sorted.csv": (
        write_sorted_gb18030,
        ("text", "classification"),
        {"text": "评论", "label": "标签"},
        "type: character",
    ),
    "pets": (write_pictures, ("vision", "classification"), {}, "flip: true"),
    "pets.zip": (write_zip, ("vision", "classification"), {}, "type: cnn"),
    "mnist": (write_idx, ("vision", "classification"), {}, "type: cnn"),
    "book.txt": (write_corpus, ("text", "generation"), {}, "type: gpt"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_each_written_file_loads_and_prepares(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write, task, columns, holds = SOURCES[name]
    write(place / name)
    init(Request(), name)
    told, written = capsys.readouterr().out, Path("cluster.yaml").read_text("utf-8")
    assert f"{name}: {' '.join(task)}" in told
    assert holds in written
    spec = load(Path("cluster.yaml"))
    assert spec.name == "my-project"
    (model,) = spec.models.values()
    assert (model.domain, model.task) == task
    assert dict(model.data.columns) == columns
    preparation = open_preparation(model)
    sources = preparation.sources()
    preparation.plan([preparation.inspect(source) for source in sources])
    preparation.fit(place / "processor", lambda text: None)
    blocks = (b for i in range(preparation.num_pieces) for b in preparation.encode(i))
    assert {split for split, _ in preparation.pack(blocks)} >= {"train", "validation"}


def test_what_was_found_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(place / "tickets.csv")
    init(Request(json=True), "tickets.csv")
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == {"x": 20, "y": 20, "z": 20}
    assert found["dropped"] == {"wrong number of columns": 1}
    assert found["encodings"] == ["utf-8"]
    written = Path("cluster.yaml").read_text()
    assert "#   60 rows (CSV, UTF-8)" in written
    assert "smallest class: z, 20 of 60" in written
    assert "broken: 1 wrong number of columns; the first: " in written
    assert "max_bad: 3%             # broken now: 1.6%" in written
    assert 'source: "tickets.csv"' in written
    assert "# also there: id, customer" in written


@pytest.mark.parametrize(
    ("head", "rows", "columns"),
    [
        ("zin;soort", [f"een lange zin {i};{'ab'[i % 2]}" for i in range(20)], ("zin", "soort")),
        ("", [f"een lange zin {i};{'ab'[i % 2]}" for i in range(20)], (0, 1)),
        ("Title,Text,y", [f"t{i},longer text {i},{i % 2}" for i in range(20)], ("Text", "y")),
        ("a,b", [f"{i % 2},words and more words {i}" for i in range(20)], ("b", "a")),
    ],
)
def test_columns_are_guessed(
    place: Path, head: str, rows: list[str], columns: tuple[str | int, str | int]
) -> None:
    (place / "a.csv").write_text("\n".join([head, *rows] if head else rows) + "\n")
    kind = kind_of(str(place / "a.csv"))
    assert kind.roles is not None
    assert kind.roles.columns == {"text": columns[0], "label": columns[1]}


def test_texts_without_labels_are_a_corpus(place: Path) -> None:
    (place / "a.csv").write_text("id,body\n" + "".join(f"{i},some text {i}\n" for i in range(50)))
    kind = kind_of("a.csv")
    assert (kind.task, kind.roles and kind.roles.columns) == ("generation", {"text": "body"})


@pytest.mark.parametrize(
    ("name", "told"),
    [("speech/fsdd", "speech recognition"), ("rec/ml-latest-small", "recommendation rating")],
)
def test_what_cannot_be_trained_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    for task in (("speech", "recognition"), ("recommendation", "rating")):
        monkeypatch.delitem(AVAILABLE, task, raising=False)
    message = f"looks like {told}, which is not available in this version; available: text"
    with pytest.raises(DataError, match=message):
        init(Request(), str(SHARED / name))
    assert not Path("cluster.yaml").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x,y\n" + "1,2\n" * 30, "has no column of texts; it has x, y"),
        ("a.csv", "body,queue\n", "holds no rows"),
        ("a.csv", "body,label\n" + "".join(f"text {i},{i}\n" for i in range(30)), "occur once"),
        ("a.csv", "body,label\n" + MOSTLY_BROKEN, "most of it cannot be used"),
    ],
)
def test_data_that_cannot_be_used_leaves_no_file(
    place: Path, name: str, content: str, message: str
) -> None:
    (place / name).write_text(content)
    with pytest.raises(DataError, match=message):
        init(Request(), name)
    assert not Path("cluster.yaml").exists()


def test_recordings_are_found_in_the_table_beside_them() -> None:
    kind = kind_of(str(SHARED / "speech/fsdd"))
    assert kind.roles is not None
    assert kind.roles.columns == {"audio": "file", "text": "text"}
    assert kind_of(str(SHARED / "speech/ljspeech_32")).roles is None


def test_real_tables_are_understood() -> None:
    for name, columns, encoding in (
        ("sst2/train.tsv", {"text": 0, "label": 1}, "utf-8"),
        ("thucnews_title/train.txt", {"text": 0, "label": 1}, "utf-8"),
        ("chnsenticorp_htl/train.csv", {"text": "review", "label": "label"}, "utf-8"),
    ):
        kind = kind_of(str(SHARED / "text" / name))
        assert kind.roles is not None
        assert kind.sample is not None
        assert (kind.roles.columns, kind.sample.encoding) == (columns, encoding)
        assert roles_of(sample_table(kind.sample.source)) == kind.roles
