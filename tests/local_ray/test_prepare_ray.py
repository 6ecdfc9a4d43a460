"""Preparing inside Ray: the same outcome, on two CPUs and where none is free."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from cluster.spec import ModelSpec, load
from cluster.storage import open_storage
from jobs.domains.files import DataError
from jobs.ordered import in_order
from jobs.prepare import prepare


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("r")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        _temp_dir=str(folder),
        runtime_env={"env_vars": {"PYTHONPATH": os.getcwd()}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelSpec:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    for i in range(24):
        text = "".join(f"line {j} of file {i}\n" for j in range(200 * i + 1))
        (tmp_path / f"{i:02}.txt").write_text(text)
    document = {
        "name": "x",
        "cluster": {"storage": "./store"},
        "models": {
            "m": {
                "domain": "text",
                "task": "generation",
                "network": {"type": "gpt", "context": 16},
                "data": {"source": "*.txt", "tokenizer": {"type": "bpe", "size": 400}},
            }
        },
    }
    (tmp_path / "cluster.yaml").write_text(json.dumps(document))
    return load(tmp_path / "cluster.yaml").model("m")


def test_the_outcome_is_that_of_one_process(
    model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load(tmp_path / "cluster.yaml")
    in_ray = prepare(model, open_storage(spec.cluster.storage, "x"), print)
    monkeypatch.setattr("jobs.ordered._has_free_cpu", lambda: False)
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache2"))
    alone = prepare(model, open_storage(spec.cluster.storage, "y"), print)
    assert alone.is_new
    assert alone.manifest == in_ray.manifest


def _squares(i: int) -> Iterator[int]:
    yield from (i, i * i)


def test_results_come_in_order() -> None:
    assert list(in_order(_squares, 40)) == [n for i in range(40) for n in (i, i * i)]


def test_nothing_waits_where_every_cpu_is_taken() -> None:
    group = ray.util.placement_group([{"CPU": 2}])
    ray.get(group.ready())
    try:
        assert list(in_order(_squares, 3)) == [0, 0, 1, 1, 2, 4]
    finally:
        ray.util.remove_placement_group(group)


def test_a_users_error_arrives_as_itself(model: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "07.txt").write_bytes(b"caf\xe9 noir")
    spec = load(tmp_path / "cluster.yaml")
    with pytest.raises(DataError, match=r"^.*07\.txt: is neither UTF-8") as error:
        prepare(model, open_storage(spec.cluster.storage, "x"), print)
    assert "Traceback" not in str(error.value)
