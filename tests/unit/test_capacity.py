"""CPUs for each worker, where the file leaves that open: never more than a node has."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.spec import share_of_cpus
from cluster.spec.clusters import POOL, ClusterSpec
from cluster.spec.places import off_head, on_pool
from cluster.spec.train import TrainSpec

HOSTS = {"type": "onprem", "head": "h", "hosts": ["a", "b", "c", "d"]}


def share(workers: int, *pools: dict[str, Any], **cluster: Any) -> int:
    """What each of so many workers gets."""
    named = [{"name": f"p{n}"} | pool for n, pool in enumerate(pools)]
    document = {"storage": "s3://b", "provider": HOSTS, "pools": named} | cluster
    return share_of_cpus(ClusterSpec.model_validate(document), TrainSpec(), workers)


@pytest.mark.parametrize(
    ("workers", "expected"), [(1, 4), (2, 4), (3, 2), (4, 2), (5, 1), (8, 1), (9, 1)]
)
def test_workers_find_room_on_two_nodes_of_four(workers: int, expected: int) -> None:
    assert share(workers, {"nodes": 2, "cpus": 4}) == expected


def test_a_worker_never_asks_for_more_than_a_node_has() -> None:
    assert share(1, {"nodes": 4096, "cpus": 1}) == 1
    assert share(1, {"nodes": 2, "cpus": 2}, {"nodes": 1, "cpus": 8}) == 8
    assert share(3, {"nodes": 2, "cpus": 2}, {"nodes": 1, "cpus": 8}) == 2


def test_one_machine_is_shared_out_whole() -> None:
    local = {"provider": {"type": "local"}, "storage": "./runs", "head": {"cpus": 7}}
    assert [share(n, **local) for n in (1, 2, 3, 7, 8)] == [7, 3, 2, 1, 1]


def test_accelerators_decide_and_open_sizes_ask_for_the_least() -> None:
    assert share(1, {"nodes": 1, "cpus": 64, "accelerators": "L4:4"}) == 1
    assert share(2) == 1


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ([{"nodes": "1..4"}], "p0"),
        ([{"nodes": "0..4"}], None),
        ([{"nodes": 1, "spot": True}, {"nodes": 2}], "p1"),
        ([{"nodes": 1, "accelerators": "L4"}, {"nodes": 1, "cpus": 4}], "p1"),
        ([{"nodes": 1, "accelerators": "L4"}], "p0"),
    ],
)
def test_on_kubernetes_there_is_a_place_off_the_head_where_a_pool_is_always_there(
    pools: list[dict[str, Any]], expected: str | None
) -> None:
    named = [{"name": f"p{n}"} | pool for n, pool in enumerate(pools)]
    document = {"storage": "s3://b", "pools": named}
    there = ClusterSpec.model_validate(document | {"provider": {"type": "kubernetes"}})
    assert off_head(there, there.pools) == ({POOL: expected} if expected else {})
    hosts = ClusterSpec.model_validate(document | {"provider": HOSTS})
    assert off_head(hosts, hosts.pools) == {}


@pytest.mark.parametrize(
    ("provider", "pool", "expected"),
    [
        ({"type": "kubernetes"}, "gpu", {POOL: "gpu"}),
        ({"type": "kubernetes"}, None, {}),
        (HOSTS, "gpu", {POOL: "gpu"}),
        ({"type": "ray", "address": "http://head:8265"}, "gpu", {}),
    ],
)
def test_nodes_that_slipway_starts_carry_the_name_of_their_pool(
    provider: dict[str, Any], pool: str | None, expected: dict[str, str]
) -> None:
    document = {"storage": "s3://b", "pools": [{"name": "gpu"}], "provider": provider}
    assert on_pool(ClusterSpec.model_validate(document), pool) == expected


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("given", ["auto", 1, 0.5])
def test_what_was_given_is_written_down_again(given: object) -> None:
    document = {"cpus_per_worker": given}
    assert TrainSpec.model_validate(document).model_dump(exclude_unset=True) == document
