"""Why something waits."""

from pathlib import Path

import pytest

from cluster.client import JobState
from cluster.spec import Spec, load
from cluster.status import pending
from cluster.waiting import amount, describe, sum_amounts, why_waiting


def make_spec(tmp_path: Path, cluster: str = "") -> Spec:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"name: acme\ncluster: {{storage: ./store{cluster}}}\n")
    return load(path)


@pytest.mark.parametrize(
    ("demand", "used", "message"),
    [
        (
            {"GPU": 8, "CPU": 1},
            {},
            "waiting for 8 GPUs: the cluster has 0 and may not grow past 0 (cluster.pools[0].nodes",
        ),
        (
            {"CPU": 5},
            {},
            "waiting for 5 CPUs: the cluster has 2 and may not grow past 2 (cluster.pools[0].nodes",
        ),
        ({"CPU": 2}, {"CPU": 1.0}, "waiting for 2 CPUs: 1 of 2 are in use"),
        ({"CPU": 1}, {}, "waiting for 1 CPU: they are free"),
    ],
)
def test_why_on_a_fixed_cluster(
    tmp_path: Path, demand: dict[str, float], used: dict[str, float], message: str
) -> None:
    spec = make_spec(tmp_path, ", pools: [{name: cpu, cpus: 2}]")
    assert why_waiting(demand, spec, {"CPU": 2.0}, used).startswith(message)


def test_what_is_free_may_be_in_another_pool(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, ", pools: [{name: cpu, cpus: 2}]")
    pool = spec.cluster.pools[0]
    both = (pool, pool.model_copy(update={"name": "other"}))
    more = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"pools": both})})
    why = why_waiting({"CPU": 1}, more, {"CPU": 2.0})
    assert why.endswith("they are free, but not on one node of its pool; it may start soon")


def test_without_pools_the_provider_is_named(tmp_path: Path) -> None:
    why = why_waiting({"GPU": 1}, make_spec(tmp_path), {"CPU": 2.0})
    assert why.endswith("may not grow past 0 (cluster.provider: local)")


def test_amounts_read_well() -> None:
    assert describe({"CPU": 2, "GPU": 1}) == "1 GPU and 2 CPUs"
    assert amount("memory", 3 * 2**29) == "1.5 GiB of memory"
    assert sum_amounts([{"CPU": 1}, {"CPU": 0.5, "GPU": 1}]) == {"CPU": 1.5, "GPU": 1}


def test_pending_names_the_job_and_skips_tasks_of_groups() -> None:
    known = [JobState("run-1", "RUNNING", "", None, 1.0, None, job_id="02")]
    groups = [
        {
            "placement_group_id": "abcdef0123",
            "name": "",
            "creator_job_id": "02",
            "bundles": [{"unit_resources": {"CPU": 1}}, {"unit_resources": {"CPU": 1}}],
        }
    ]
    tasks = [
        {"name": "f", "job_id": "03", "required_resources": {"GPU": 1}, "placement_group_id": None},
        {"name": "g", "job_id": "02", "required_resources": {"CPU": 1}, "placement_group_id": "ab"},
    ]
    assert pending(groups, tasks, known) == [
        ("placement group abcdef01", "run-1", {"CPU": 2}),
        ("f", None, {"GPU": 1}),
    ]
