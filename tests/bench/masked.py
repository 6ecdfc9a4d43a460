"""Whether reading texts without labels first helps a BERT that has few labels."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path
from typing import Any

from cluster.connection import Connection
from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.bundles import resolve
from jobs.starts import pinned
from tests.bench.quality import SPEC as QUALITY
from tests.bench.result import Result, Say
from tests.clusters import own_cluster, train

CLAIM = "masked language modelling first helps where labels are few"
HOW = (
    "tests/bench/masked.yaml on text/ag_news: test accuracy of a small BERT fine-tuned on an "
    "eighth of the training rows, from `task: masked-lm` over the texts of all of them, against "
    "the same from nothing; a tenth of the rows is kept for the test and read by neither; one seed"
)
SPEC = Path(__file__).with_name("masked.yaml")
TEST_EVERY, LABELLED_EVERY = 10, 8


def measure(folder: Path, say: Say) -> Result:
    """Train the three models of masked.yaml, the reader first."""
    counts = write_tables(folder)
    shutil.copyfile(SPEC, folder / SPEC.name)
    spec = load(folder / SPEC.name)
    found: dict[str, dict[str, Any]] = {}
    with own_cluster(spec, folder / "state") as connection:
        for name in ("reader", "scratch", "started"):
            found[name] = _run(connection, spec, name)
            say(f"{name}: {found[name]}")
    first, second = (found[name]["metrics"]["accuracy"] for name in ("started", "scratch"))
    baseline = found["scratch"]["baseline"]["accuracy"]
    return Result(
        f"accuracy {first:.4f} with, {second:.4f} without, {baseline:.4f} by TF-IDF and logistic "
        f"regression; {counts['labelled']:,} labels, {counts['texts']:,} texts, "
        f"{found['reader']['seconds']:.0f} s of reading",
        "higher with",
        first > second,
        {"runs": found, "records": counts},
    )


def write_tables(folder: Path) -> dict[str, int]:
    """texts.csv, labelled.csv and test.csv of the rows of ag_news; how many rows each has."""
    source = Path(str(load(QUALITY).model("ag-news").data.source[0]))
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = [row for i, row in enumerate(rows) if i % TEST_EVERY]
    tables = {
        "texts": [{"text": row["text"]} for row in known],
        "labelled": known[::LABELLED_EVERY],
        "test": rows[::TEST_EVERY],
    }
    for name, table in tables.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return {name: len(table) for name, table in tables.items()}


def _run(connection: Connection, spec: Spec, name: str) -> dict[str, Any]:
    storage = open_storage(spec.cluster.storage, spec.name)
    began = time.monotonic()
    run = train(connection, pinned(spec, name, storage), until="evaluate", name=name)
    seconds, result = time.monotonic() - began, run.result()
    assert result is not None
    report = resolve(storage, f"{name}@{result['version']}").held_back or result
    known = ("metrics", "baseline", "records")
    return {"seconds": seconds} | {key: report[key] for key in known if key in report}
