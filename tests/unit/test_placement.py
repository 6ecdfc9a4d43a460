"""How a run is placed, and what its checkpoint allows."""

import os
from pathlib import Path

import pytest

from cluster.spec import Spec, load
from cluster.storage import open_storage
from jobs.placement import Placement, place
from jobs.runs import Run

YAML = """\
name: acme
cluster: {{pools: [{{name: local, nodes: 1, cpus: 4}}]}}
models:
  m:
    domain: text
    task: generation
    data: builtin:python-docs
    train: {{global_batch: 12, workers: {workers}, zero: {{stage: {stage}}}}}
"""


def spec_of(folder: Path, workers: str = "1..8", stage: str = "auto") -> Spec:
    file = folder / "cluster.yaml"
    file.write_text(YAML.format(workers=workers, stage=stage))
    return load(file)


def new_run(spec: Spec) -> Run:
    return Run.open(open_storage(spec.cluster.storage, spec.name), "m", "train", "ab" * 32)


def save(run: Run, workers: int, stage: int, precision: str = "fp32") -> None:
    number = run.next_attempt({"resumes": None})
    content = {"step": 5, "files": {}, "world_size": workers, "zero_stage": stage}
    path = f"{run.path}/{number}/checkpoints/step-000005/manifest.json"
    run.storage.write_json(path, content | {"precision": precision})


def test_the_largest_size_that_divides_and_fits(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    assert place(spec, "m", new_run(spec)) == Placement(workers=4, stage=0, precision="fp32")


def test_a_checkpoint_keeps_its_workers_and_stage(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    run = new_run(spec)
    save(run, workers=3, stage=2)
    assert place(spec, "m", run) == Placement(workers=3, stage=2, precision="fp32")


@pytest.mark.parametrize(
    ("workers", "stage", "precision", "words"),
    [
        (2, 1, "fp32", "train.zero.stage: 1, and cannot go on with 3"),
        (1, 3, "fp32", "train.workers: 1, and cannot go on with 2"),
        (2, 3, "bf16", "train.precision: bf16, and cannot go on with fp32"),
    ],
)
def test_another_placement_is_refused_with_the_way_out(
    tmp_path: Path, workers: int, stage: int, precision: str, words: str
) -> None:
    spec = spec_of(tmp_path, workers="2", stage="3")
    run = new_run(spec)
    save(run, workers, stage, precision)
    with pytest.raises(ValueError, match="--again") as refused:
        place(spec, "m", run)
    assert words in str(refused.value)


def test_workers_beyond_the_cluster_are_refused_when_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers"):
        spec_of(tmp_path, workers=str((os.cpu_count() or 1) + 60))
