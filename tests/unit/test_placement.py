"""How a run is placed, and what its checkpoint allows."""

import os
from pathlib import Path

import pytest

from cluster.spec import Spec, load
from jobs.placement import Placement, place

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


def test_the_largest_size_that_divides_and_fits(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    assert place(spec, "m") == Placement(workers=4, stage=0, precision="fp32")


def test_no_more_than_there_is_room_for(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, workers="2..8")
    assert [place(spec, "m", room=room).workers for room in (9, 4, 3, 2)] == [4, 4, 3, 2]
    with pytest.raises(ValueError, match=r"2\.\.8 do not fit the cluster, which holds 1"):
        place(spec, "m", room=1)


def test_workers_beyond_the_cluster_are_refused_when_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers"):
        spec_of(tmp_path, workers=str((os.cpu_count() or 1) + 60))
