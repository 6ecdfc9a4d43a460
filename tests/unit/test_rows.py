import hashlib
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.domains.text.packing import rows_schema, to_batch
from jobs.rows import RowsError, open_rows

NUM_ROWS, WIDTH = 20_000, 257
VALUES = np.random.default_rng(0).integers(0, 8192, (NUM_ROWS, WIDTH)).astype(np.uint16)


class FolderStorage:
    """A storage with just enough to read rows; counts what is fetched."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fetched: list[str] = []

    def read_json(self, path: str) -> Any:
        return json.loads((self.root / path).read_text())

    def download(self, path: str, local: Path) -> str:
        self.fetched.append(path)
        shutil.copyfile(self.root / path, local)
        return ""


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    schema = rows_schema(WIDTH, np.dtype(np.uint16))
    files = {}
    for number, part in enumerate(np.array_split(VALUES, 3)):
        name = f"train/part-{number:05d}.parquet"
        path = tmp_path / "store" / "data" / "d1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_batches([to_batch(part, schema)]), path)
        files[name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest = tmp_path / "store" / "data" / "d1" / "manifest.json"
    manifest.write_text(json.dumps({"files": files}))
    return FolderStorage(tmp_path / "store")


def test_rows_are_those_of_the_shards(storage: FolderStorage, tmp_path: Path) -> None:
    rows = open_rows(storage, "d1", "train", tmp_path / "cache")
    indices = np.asarray([0, 19_999, 8192, 6667, 6666, 0])
    assert len(rows) == NUM_ROWS
    assert np.array_equal(rows.take(indices)["tokens"], VALUES[indices])
    assert np.array_equal(rows.slice(19_990, 30_000)["tokens"], VALUES[19_990:])
    with pytest.raises(IndexError):
        rows.take(np.asarray([NUM_ROWS]))


def test_a_batch_takes_well_under_a_millisecond(storage: FolderStorage, tmp_path: Path) -> None:
    rows = open_rows(storage, "d1", "train", tmp_path / "cache")
    generator = np.random.default_rng(1)
    batches = [generator.integers(0, NUM_ROWS, 32) for _ in range(200)]
    times = []
    for batch in batches:
        started = time.perf_counter()
        rows.take(batch)
        times.append(time.perf_counter() - started)
    assert np.median(times) < 1e-3


def test_the_copy_is_made_once_by_many(storage: FolderStorage, tmp_path: Path) -> None:
    def work() -> None:
        assert len(open_rows(storage, "d1", "train", tmp_path / "cache")) == NUM_ROWS

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(storage.fetched) == 3
    names = {path.name for path in (tmp_path / "cache" / "rows" / "d1").iterdir()}
    assert names == {"train.arrow", "train.lock"}


def test_a_changed_shard_is_refused(storage: FolderStorage, tmp_path: Path) -> None:
    shard = storage.root / "data" / "d1" / "train" / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(RowsError, match=r"part-00001\.parquet changed"):
        open_rows(storage, "d1", "train", tmp_path / "cache")
    assert not (tmp_path / "cache" / "rows" / "d1" / "train.arrow").exists()


def test_a_split_without_rows(storage: FolderStorage, tmp_path: Path) -> None:
    with pytest.raises(RowsError, match="no rows in its test split"):
        open_rows(storage, "d1", "test", tmp_path / "cache")


def test_lists_of_different_lengths_come_padded_with_their_lengths(tmp_path: Path) -> None:
    lists = [[1, 2, 3], [], [4], [5, 6]]
    rows = pa.record_batch({"tokens": pa.array(lists, pa.list_(pa.int32())), "label": range(4)})
    path = tmp_path / "data/lists/train/part-00000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_batches([rows]), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {"files": {"train/part-00000.parquet": {"sha256": digest}}}
    (tmp_path / "data/lists/manifest.json").write_text(json.dumps(manifest))
    opened = open_rows(FolderStorage(tmp_path), "lists", "train", tmp_path / "cache")
    taken = opened.take(np.asarray([3, 1, 0]))
    assert taken["tokens"].tolist() == [[5, 6, 0], [0, 0, 0], [1, 2, 3]]
    assert taken["tokens_length"].tolist() == [2, 0, 3]
    assert taken["label"].tolist() == [3, 1, 0]
    assert opened.slice(1, 2)["tokens"].shape == (1, 0)
    assert opened.lengths("tokens", np.asarray([3, 1, 0])).tolist() == [2, 0, 3]
