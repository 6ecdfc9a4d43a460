import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.domains.files import DataError, Source, find_sources
from jobs.domains.records.record import Bad
from jobs.domains.text import documents as module
from jobs.domains.text.documents import SUFFIXES, documents, reading_of, spans
from jobs.domains.text.inspection import check_dropped, inspect
from jobs.domains.text.records import Document, Layout

LAYOUT = Layout()


def source(path: Path) -> Source:
    return find_sources([str(path)], SUFFIXES)[0]


def read(path: Path, layout: Layout = LAYOUT) -> list[Document | Bad]:
    reading = reading_of(source(path), layout)
    return [r for start, stop in spans(reading) for r in documents(reading, start, stop)]


def texts(path: Path, layout: Layout = LAYOUT) -> list[str]:
    return [r.text for r in read(path, layout) if isinstance(r, Document)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    text = "第一回 宴桃园豪杰三结义\n滚滚长江东逝水\n"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert "".join(texts(tmp_path / "a.txt")) == text


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_large_file_is_one_document_in_chunks(
    tmp_path: Path, encoding: str, is_packed: bool
) -> None:
    text = "".join(f"第{i}行 and some words\r\n" for i in range(120_000))
    path = tmp_path / ("a.txt.gz" if is_packed else "a.txt")
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data, 1) if is_packed else data)
    found = [r for r in read(path) if isinstance(r, Document)]
    assert "".join(d.text for d in found) == text.replace("\r\n", "\n")
    assert len(found) > 2
    assert max(len(d.text) for d in found) < 4 << 20
    assert [d.opens for d in found] == [True] + [False] * (len(found) - 1)
    assert [d.closes for d in found] == [False] * (len(found) - 1) + [True]


def test_a_line_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPAN_BYTES", 1000)
    (tmp_path / "a.txt").write_text("é" * 2_000_000, "utf-8")
    assert "".join(texts(tmp_path / "a.txt")) == "é" * 2_000_000


def test_spans_join_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"行 {i}\nline"} for i in range(500)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines, "utf-8-sig")
    whole = texts(tmp_path / "a.jsonl")
    monkeypatch.setattr(module, "SPAN_BYTES", 700)
    assert len(spans(reading_of(source(tmp_path / "a.jsonl"), LAYOUT))) > 5
    assert texts(tmp_path / "a.jsonl") == whole == [row["text"] for row in rows]


def test_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,body\n1,"two\nlines"\n2,b\n3\n')
    (tmp_path / "a.tsv").write_text("x\ty\nz\tw\n")
    pq.write_table(pa.table({"body": ["p", None, "q"]}), tmp_path / "a.parquet")
    body = Layout("body")
    assert read(tmp_path / "a.csv", body)[2] == Bad(
        "wrong number of columns (1, not 2)", f"{tmp_path / 'a.csv'}:5"
    )
    assert texts(tmp_path / "a.csv", body) == ["two\nlines", "b"]
    assert texts(tmp_path / "a.tsv", Layout(1)) == ["y", "w"]
    assert texts(tmp_path / "a.parquet", body) == ["p", "q"]
    with pytest.raises(DataError, match=r"no column 'text'; it has id, body: name one in"):
        read(tmp_path / "a.csv")


def test_broken_rows_are_counted_by_cause_and_located(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ['{"text": "good"}'] * 300
    rows[250], rows[260], rows[270] = "{oops", '{"body": 1}', '{"text": "  "}'
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(module, "SPAN_BYTES", 1000)
    found = inspect(source(tmp_path / "a.jsonl"), LAYOUT, 0)
    assert found.dropped == {"not JSON": 1, 'no "text"': 1, "empty": 1}
    assert found.documents == 297
    assert found.examples[0] == f"{tmp_path}/a.jsonl:251: not JSON"
    assert check_dropped([found], 0.01) == found.dropped
    with pytest.raises(DataError, match=r"3 of 300 records cannot be used") as error:
        check_dropped([found], 0.005)
    assert f'{tmp_path}/a.jsonl:261: no "text" (has body)' in str(error.value)


BAD_FILES = {
    "empty.txt": (b"", "is empty"),
    "blank.txt": (b" \n \n", "holds no text"),
    "half.txt": ("好".encode() * 30 + b"\xe5\xa5", "byte 90.*cut off"),
    "broken.txt": ("好".encode() * 30 + b"\xff\xfe ok", "byte 90 is not utf-8"),
    "latin.txt": ("café noir".encode("latin-1"), "neither UTF-8 .byte 3.* nor GB18030"),
    "program.txt": (b"MZ\x00\x01", "binary file"),
    "half.jsonl": (b'{"text": "a"}\n{"te', "last line is cut off"),
    "none.jsonl": (b'{"a": "a"}\n', 'no record can be used .1 no "text"'),
    "half.txt.gz": (gzip.compress(b"text" * 99)[:-9], "gzip file is cut off"),
    "no.txt.gz": (b"text", "is not gzip"),
    "half.parquet": (b"PAR1....", "no complete parquet file"),
    "a.json": (b"[]", "name it .jsonl"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_in_no_use_are_one_clear_error(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        inspect(source(tmp_path / name), LAYOUT, 0)
    assert str(tmp_path / name) in str(error.value)


def test_named_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café noir".encode("latin-1"))
    assert texts(tmp_path / "a.txt", Layout("text", "latin-1")) == ["café noir"]
    with pytest.raises(DataError, match="byte 3 is not utf-8"):
        texts(tmp_path / "a.txt", Layout("text", "utf-8"))
    with pytest.raises(DataError, match="unknown"):
        texts(tmp_path / "a.txt", Layout("text", "klingon"))


def test_finding_files(tmp_path: Path) -> None:
    for name in ("b/two.txt", "a.txt", "b/one.md.gz", "b/.hidden.txt", "picture.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")

    def names(*paths: str) -> list[str]:
        found = find_sources([str(tmp_path / path) for path in paths], SUFFIXES)
        return [Path(s.path).name for s in found]

    assert names(".") == ["a.txt", "one.md.gz", "two.txt"]
    assert names("*.*", "b", "a.txt") == ["a.txt", "picture.jpg", "one.md.gz", "two.txt"]
    for path, message in (("c.txt", "no such file"), ("*.pdf", "no file matches")):
        with pytest.raises(DataError, match=message):
            names(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it is empty"):
        names("empty")


def test_builtin_sources() -> None:
    found = find_sources(["builtin:python-docs"], SUFFIXES)[0]
    inspection = inspect(found, LAYOUT, 0)
    assert inspection.documents > 50
    assert sum(span.characters for span in inspection.spans) > 400_000
    with pytest.raises(DataError, match="there are builtin:python-docs"):
        inspect(Source("builtin:bible"), LAYOUT, 0)
    reading = reading_of(Source("builtin:python-source"), LAYOUT)
    assert len(spans(reading)) > 5
    assert all(isinstance(d, Document) and d.text for d in documents(reading, 0, 3))
