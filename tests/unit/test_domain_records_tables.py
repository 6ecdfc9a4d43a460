from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.domains.files import DataError, find_sources
from jobs.domains.records import Bad, Row, describe_table, read_table
from jobs.domains.records.tables import SUFFIXES

SHARED = Path(__file__).parents[3] / "shared" / "data" / "text"
NAMES = {"text": "body", "label": "queue"}
PLACES = {"text": 0, "label": 1}


def read(path: Path, columns: dict, **more) -> list[Row | Bad]:
    return list(read_table(find_sources([str(path)], SUFFIXES)[0], columns, **more))


def pairs(path: Path, columns: dict = NAMES, **more) -> list[tuple[str, str]]:
    rows = read(path, columns, **more)
    return [(row.cells["text"], row.cells["label"]) for row in rows if isinstance(row, Row)]


WRITTEN = {
    "comma.csv": b'body,queue\n"a, b",x\nc,y\n',
    "semicolon.csv": b'body;queue\n"a, b";x\nc;y\n',
    "crlf.csv": b'body,queue\r\n"a, b",x\r\n\r\nc,y\r\n',
    "marked.csv": "\ufeffbody,queue\na, b,x\n".encode().replace(b"a, b", b'"a, b"') + b"c,y\n",
    "packed.tsv": b"queue\tbody\nx\ta, b\ny\tc\n",
    "lines.jsonl": b'{"body": "a, b", "queue": "x"}\n\n{"queue": "y", "body": "c"}',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_rows_however_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WRITTEN[name])
    assert pairs(tmp_path / name) == [("a, b", "x"), ("c", "y")]
    assert pairs(tmp_path / name, start=1) == [("c", "y")]
    assert pairs(tmp_path / name, start=0, stop=1) == [("a, b", "x")]


def test_numbers_become_text(tmp_path: Path) -> None:
    table = pa.table({"body": ["a", "b", "c"], "queue": [3.0, 2.5, None]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    (tmp_path / "a.jsonl").write_text('{"body": "a", "queue": 3}\n{"body": 7, "queue": true}\n')
    assert pairs(tmp_path / "a.parquet") == [("a", "3"), ("b", "2.5")]
    assert read(tmp_path / "a.parquet", NAMES)[2] == Bad(
        'no "queue"', f"{tmp_path}/a.parquet:row 3"
    )
    assert pairs(tmp_path / "a.parquet", start=1) == [("b", "2.5")]
    assert read(tmp_path / "a.parquet", NAMES, start=2)[0].place.endswith(":row 3")
    assert pairs(tmp_path / "a.jsonl") == [("a", "3"), ("7", "true")]


def test_cells_may_stay_as_they_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": b"\xff"}]}), tmp_path / "a.parquet")
    row = read(tmp_path / "a.parquet", {"image": "image"}, raw={"image"})[0]
    assert isinstance(row, Row)
    assert row.cells == {"image": {"bytes": b"\xff"}}


def test_quotes_in_tsv_are_found_out(tmp_path: Path) -> None:
    (tmp_path / "plain.tsv").write_text('"a day out\t1\nb "b" b\t0\nc\t1\n')
    (tmp_path / "quoted.tsv").write_text('"a ""big"" day\tout"\t1\nb\t0\n')
    (tmp_path / "closed.tsv").write_text('"so ""it"" is"\t1\nb\t0\n')
    assert [text for text, _ in pairs(tmp_path / "plain.tsv", PLACES)] == [
        '"a day out',
        'b "b" b',
        "c",
    ]
    assert pairs(tmp_path / "quoted.tsv", PLACES)[0] == ('a "big" day\tout', "1")
    assert pairs(tmp_path / "closed.tsv", PLACES)[0] == ('so "it" is', "1")


def test_wrong_bytes_cost_their_rows_only(tmp_path: Path) -> None:
    lines = [f"行数 {i},x".encode() for i in range(50)]
    for encoding in ("utf-8", "gb18030"):
        rows = [line.decode().encode(encoding) for line in lines]
        rows[20] = b"\xff\xff wrong,x"
        (tmp_path / "a.csv").write_bytes(b"\n".join([b"body,queue", *rows]) + b"\n")
        found = read(tmp_path / "a.csv", NAMES)
        assert found[20].place == f"{tmp_path}/a.csv:22"
        assert isinstance(found[20], Bad)
        assert found[20].kind == f"not {encoding}"
        assert pairs(tmp_path / "a.csv")[48] == ("行数 49", "x")
        assert describe_table(find_sources([str(tmp_path)], SUFFIXES)[0]) == {
            "form": "csv",
            "encoding": encoding,
        }


def test_bad_rows_say_where_they_begin(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('body,queue\n"two\nlines",x\nlonely\nb,y,z\nc,y\n')
    found = read(tmp_path / "a.csv", NAMES)
    assert found[1:3] == [
        Bad("wrong number of columns (1, not 2)", f"{tmp_path}/a.csv:4"),
        Bad("wrong number of columns (3, not 2)", f"{tmp_path}/a.csv:5"),
    ]
    assert {bad.kind for bad in found[1:3]} == {"wrong number of columns"}
    assert found[3].place.endswith(":6")


def test_the_first_row_need_not_be_right(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("only one\n" + "a\tx\n" * 9)
    assert len(pairs(tmp_path / "a.tsv", PLACES)) == 9


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("a.csv", {"text": "text"}, "no column 'text'; it has body, queue: name one in data.col"),
        ("a.csv", {"text": 5}, "no column 5; it has 0, 1: name one in data.columns.text"),
        ("a.csv", {"text": "body", "label": "kind"}, r"name one in data\.columns\.label"),
        ("a.parquet", {"text": "text"}, "it has body"),
        ("empty.csv", NAMES, "is empty"),
    ],
)
def test_columns_that_do_not_exist(tmp_path: Path, name: str, columns: dict, message: str) -> None:
    (tmp_path / "a.csv").write_text("body,queue\na,x\n")
    (tmp_path / "empty.csv").write_text("")
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path / name, columns)
    assert str(tmp_path / name) in str(error.value)


def test_a_quote_that_never_closes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body,queue\na,x\n" + '"open,x\n' + "b,y\n" * 12_000)
    with pytest.raises(DataError, match=r"a\.csv:3: a quote opens here that does not close"):
        read(tmp_path / "a.csv", NAMES)


@pytest.mark.parametrize(
    ("name", "columns", "count"),
    [
        ("sst2/train.tsv", PLACES, 6917),
        ("chnsenticorp_htl/train.csv", {"text": "review", "label": "label"}, 6212),
        ("thucnews_title/train.txt", PLACES, 9991),
        ("ag_news/train.csv", {"text": "text", "label": "label"}, 8592),
    ],
)
def test_real_tables(name: str, columns: dict, count: int) -> None:
    rows = pairs(SHARED / name, columns)
    assert len(rows) == len(read(SHARED / name, columns)) == count
    assert len({label for _, label in rows}) <= 10
