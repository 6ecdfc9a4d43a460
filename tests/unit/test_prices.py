"""What a node costs, by the pool's own word or by the table."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cluster import machines, prices
from cluster.prices import head_price, price_of
from cluster.spec import load

PROVIDERS: dict[str, str] = {
    "aws": "{type: aws}",
    "gcp": "{type: gcp, project: p}",
    "azure": "{type: azure}",
    "eks": "{type: kubernetes, image: i, platform: eks}",
    "kubernetes": "{type: kubernetes, image: i}",
}


def spec(folder: Path, provider: str, pool: str) -> Any:
    path = folder / "cluster.yaml"
    path.write_text(
        f"cluster:\n  provider: {PROVIDERS[provider]}\n  storage: s3://bucket\n"
        f"  pools: [{{name: gpu, {pool}}}]\n"
    )
    return load(path)


@pytest.mark.parametrize(
    ("provider", "pool", "on_demand"),
    [
        ("aws", "accelerators: H100:8", 55.04),
        ("eks", "accelerators: H100:8", 55.04),
        ("aws", "instance: p4d.24xlarge, accelerators: A100:8", 21.957642),
        ("aws", "cpus: 15, memory: 60Gi", 0.8064),
        ("gcp", "accelerators: T4:2", 0.759996 + 2 * 0.35),
        ("azure", "accelerators: H100:8", 98.32),
    ],
)
def test_the_table_prices_the_machine_that_is_taken(
    tmp_path: Path, provider: str, pool: str, on_demand: float
) -> None:
    loaded = spec(tmp_path, provider, pool)
    found = price_of(loaded, loaded.cluster.pools[0])
    assert found is not None
    assert found.on_demand == pytest.approx(on_demand)
    assert found.per_hour == found.on_demand
    assert str(prices.table()["date"]) in found.source


def test_spot_is_counted_where_the_pool_is_spot_and_the_table_has_it(tmp_path: Path) -> None:
    loaded = spec(tmp_path, "aws", "accelerators: H100:8, spot: true")
    found = price_of(loaded, loaded.cluster.pools[0])
    assert found is not None
    assert found.per_hour == found.spot
    assert found.spot < 55.04 == found.on_demand
    loaded = spec(tmp_path, "gcp", "accelerators: H100:8, spot: true")
    found = price_of(loaded, loaded.cluster.pools[0])
    assert found is not None
    assert found.per_hour == found.on_demand == 88.49
    assert "no spot price" in found.source


def test_the_pools_own_price_wins(tmp_path: Path) -> None:
    loaded = spec(tmp_path, "aws", "accelerators: H100:8, price: 31.2 USD/h, spot: true")
    found = price_of(loaded, loaded.cluster.pools[0])
    assert found is not None
    assert (found.per_hour, found.on_demand) == (31.2, 55.04)
    loaded = spec(tmp_path, "kubernetes", "accelerators: H100:8, price: 30 EUR/h")
    found = price_of(loaded, loaded.cluster.pools[0])
    assert found is not None
    assert (found.per_hour, found.currency, found.spot) == (30, "EUR", None)


def test_nobody_says_what_a_node_of_an_unnamed_platform_costs(tmp_path: Path) -> None:
    loaded = spec(tmp_path, "kubernetes", "accelerators: H100:8")
    assert price_of(loaded, loaded.cluster.pools[0]) is None
    assert head_price(loaded) is None


def test_a_clouds_head_costs_too(tmp_path: Path) -> None:
    found = head_price(spec(tmp_path, "aws", "accelerators: H100:8"))
    assert found is not None
    assert found.per_hour == 0.1008


def test_every_price_is_of_a_machine_that_the_other_table_has() -> None:
    assert isinstance(prices.table()["date"], date)
    for cloud in machines.CLOUDS:
        named = {row[0] for row in machines.table()["plain"][cloud]}
        for kind in machines.kinds().values():
            named |= {machine.name for machine in kind.machines.get(cloud, ())}
        rows = prices.table()[cloud]["machines"]
        assert set(rows) <= named
        for on_demand, spot in rows.values():
            assert 0.05 < on_demand < 200
            assert spot is None or 0.05 < spot < on_demand
