import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.spec import ModelSpec, load
from cluster.storage import Storage, open_storage
from jobs.domains.files import DataError
from jobs.domains.text.vocabulary import Vocabulary
from jobs.prepare import Prepared, prepare
from jobs.rows import open_rows

LINES = "".join(f"line {i} of the only document, with words\n" for i in range(400))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Project:
    """A folder with a YAML of one model; what is reported is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []

    def model(self, source: str, context: int = 16, **data: Any) -> ModelSpec:
        settings = {"source": source, "tokenizer": {"type": "character"}} | data
        model = {
            "domain": "text",
            "task": "generation",
            "network": {"type": "gpt", "context": context, "width": 8, "heads": 2},
            "data": settings,
        }
        document = {"name": "x", "cluster": {"storage": "./store"}, "models": {"m": model}}
        (self.folder / "cluster.yaml").write_text(json.dumps(document))
        return load(self.folder / "cluster.yaml").model("m")

    def storage(self, name: str = "x") -> Storage:
        return open_storage(load(self.folder / "cluster.yaml").cluster.storage, name)

    def prepare(self, source: str, name: str = "x", **data: Any) -> Prepared:
        model = self.model(source, **data)
        return prepare(model, self.storage(name), self.told.append)

    def text_of(self, prepared: Prepared, split: str) -> str:
        rows = open_rows(self.storage(), prepared.digest, split).slice(0, 1 << 30)["tokens"]
        folder = self.folder / "store" / "x" / prepared.path / "processor"
        ids = np.concatenate([rows[0, :1], rows[:, 1:].reshape(-1)])
        vocabulary = Vocabulary(folder)
        return "|".join(vocabulary.decode(part) for part in np.split(ids, _marks(ids, vocabulary)))


def _marks(ids: Any, vocabulary: Vocabulary) -> Any:
    return np.flatnonzero(ids == vocabulary.end)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_one_document_is_cut_at_its_end(project: Project) -> None:
    (project.folder / "a.txt").write_text(LINES)
    prepared = project.prepare("a.txt")
    splits, cut = prepared.manifest["splits"], int(0.9 * len(LINES))
    assert splits["train"]["characters"] == cut
    assert splits["validation"]["characters"] == len(LINES) - cut
    assert splits["train"]["tokens"] == cut + 1  # the mark before the document
    assert splits["validation"]["tokens"] == len(LINES) - cut + 1  # the mark after it
    assert splits["test"]["rows"] == 0
    text = project.text_of(prepared, "train")
    assert text.startswith("|line 0 of")
    assert LINES.startswith(text[1:])
    assert LINES[cut:].startswith(project.text_of(prepared, "validation"))
    for counts in splits.values():
        assert (
            counts["tokens_left"] == counts["tokens"] - bool(counts["rows"]) - 16 * counts["rows"]
        )


def test_documents_are_divided_by_content(project: Project) -> None:
    for i in range(40):
        (project.folder / f"d{i:02}.md").write_text(f"document number {i} says hello\n" * 3)
    prepared = project.prepare("*.md", split={"validation": "10%", "test": "20%"})
    counts = [prepared.manifest["splits"][s]["documents"] for s in ("train", "validation", "test")]
    assert counts == [28, 4, 8]
    texts = {s: project.text_of(prepared, s) for s in ("train", "validation", "test")}
    seen = [set(text.split("|")[1:-1]) for text in texts.values()]
    assert not (seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2])
    assert all(text.startswith("|document number") for text in texts.values())


def test_given_validation_files_are_honoured(project: Project) -> None:
    (project.folder / "a.txt").write_text(LINES)
    (project.folder / "v.txt").write_text("one line of validation\n" * 5)
    prepared = project.prepare("a.txt", split={"validation": "v.txt"})
    assert prepared.manifest["splits"]["train"]["characters"] == len(LINES)
    assert prepared.manifest["splits"]["validation"]["characters"] == 23 * 5


def test_the_same_is_not_done_again(project: Project, cache: Path) -> None:
    (project.folder / "a.txt").write_text(LINES)
    os.utime(project.folder / "a.txt", (1, 1))
    first = project.prepare("a.txt")
    assert first.is_new
    assert list((cache / "inspections").iterdir())
    project.told.clear()
    second = project.prepare("./a.txt")
    assert (second.is_new, second.digest) == (False, first.digest)
    assert second.manifest == first.manifest
    assert project.told == [f"data {first.digest[:12]} is prepared already"]
    assert project.prepare("a.txt", seed=1).digest != first.digest
    assert project.prepare("a.txt", context=8).digest != first.digest
    (project.folder / "a.txt").write_text(LINES + "more\n")
    assert project.prepare("a.txt").digest != first.digest


def test_the_outcome_is_the_same_byte_for_byte(project: Project) -> None:
    (project.folder / "a.txt").write_text(LINES)
    tokenizer = {"type": "bpe", "size": 300}
    first = project.prepare("a.txt", tokenizer=tokenizer)
    second = project.prepare("a.txt", name="y", tokenizer=tokenizer)
    assert second.is_new
    assert second.manifest == first.manifest
    assert set(first.manifest["files"]) == {
        "processor/tokenizer.json",
        "processor/tokenizer_config.json",
        "train/part-00000.parquet",
        "validation/part-00000.parquet",
    }
    shard = project.folder / "store" / "x" / first.path / "train" / "part-00000.parquet"
    table = pq.read_table(shard)
    assert table.num_rows == first.manifest["splits"]["train"]["rows"]
    assert str(table.schema.field("tokens").type) == "fixed_size_list<element: uint16 not null>[17]"
    assert first.manifest["sources"][0]["encoding"] == "utf-8"


def test_dropped_records_are_told(project: Project) -> None:
    rows = [json.dumps({"body": f"text number {i} is here"}) for i in range(300)] + ["{", '{"a":1}']
    (project.folder / "a.jsonl").write_text("\n".join(rows) + "\n")
    prepared = project.prepare("a.jsonl", columns={"text": "body"})
    assert prepared.manifest["dropped"] == {'no "body"': 1, "not JSON": 1}
    assert prepared.manifest["examples"][0].endswith("a.jsonl:301: not JSON")
    with pytest.raises(DataError, match=r"2 of 302 records cannot be used"):
        project.prepare("a.jsonl", columns={"text": "body"}, max_bad=0.001)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("too short", r"train split holds 9 tokens, less than one row of 17"),
        ("short, but long enough to train\n", r"validation split .* raise data.split.validation"),
    ],
)
def test_too_little_text(project: Project, text: str, message: str) -> None:
    (project.folder / "a.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        project.prepare("a.txt")
    assert not list((project.folder / "store").rglob("*.*"))


def test_a_missing_file_leaves_nothing(project: Project) -> None:
    with pytest.raises(DataError, match=r"b\.txt: no such file"):
        project.prepare("b.txt")
    assert not (project.folder / "store").exists()


@pytest.mark.skipif(
    not Path(os.environ.get("SLIPWAY_SHARED", "../shared"), "data/lm/tinyshakespeare").exists(),
    reason="needs the shared data (SLIPWAY_SHARED)",
)
def test_tiny_shakespeare_is_divided_as_in_nanogpt(project: Project) -> None:
    shared = Path(os.environ.get("SLIPWAY_SHARED", "../shared")).absolute()
    source = str(shared / "data/lm/tinyshakespeare/train.txt")
    splits = project.prepare(source, context=64).manifest["splits"]
    assert splits["train"]["characters"] == 903_468
    assert splits["validation"]["characters"] == 100_386
    assert splits["validation"]["rows"] == 100_386 // 64
