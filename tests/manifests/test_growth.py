"""What costs more than what is applied is asked about first, with its price."""

from __future__ import annotations

import pytest

from cluster import verbs
from cluster.kubernetes.growth import bill
from cluster.request import Request, WrongRequestError
from cluster.spec import load
from serve.rayservice import deploy_rayservice, stop_rayservice
from tests.manifests.test_serving import MODELS, api, tokens

__all__ = ["api", "tokens"]  # fixtures
PROVIDER = "namespace: ml, context: prod"
POOL = "pools: [{name: gpu, nodes: 1..2, accelerators: T4:4, price: 5 USD/h}]"
DEARER = [
    ("1..2", "1..40", r"1..40 nodes of gpu \(T4:4\): 5.00 to 200.00 USD an hour"),
    ("1..2", "2", r"2 nodes of gpu \(T4:4\): 10.00 USD an hour"),
    ("price: 5 USD/h", "price: 6 USD/h", "6.00 to 12.00 USD an hour"),
    ("price: 5 USD/h", "price: 4 EUR/h", "4.00 to 8.00 EUR an hour"),
    ("T4:4", "T4:8", "T4:8"),
    (", price: 5 USD/h", "", "no price is known of gpu"),
    ("name: gpu", "name: other", "nodes of other"),
]
AS_DEAR = [
    ("1..2", "0..1"),
    ("price: 5 USD/h", "price: 4 USD/h"),
    ("accelerators: T4:4", "accelerators: L4:4"),
    ("accelerators: T4:4", "memory: 8Gi, accelerators: T4:4"),
]


@pytest.fixture
def file(spec_of, tmp_path):
    """The YAML of a cluster with a pool and two services."""
    spec_of(POOL, rest=MODELS, provider=PROVIDER)
    return tmp_path / "cluster.yaml"


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(("old", "new", "price"), DEARER)
def test_up_asks_before_a_cluster_grows_or_gets_dearer(api, file, old, new, price):
    with pytest.raises(WrongRequestError, match=r"start acme in namespace ml: a head, 1..2 nodes"):
        verbs.up(Request(file, json=True))
    verbs.up(Request(file, json=True, yes=True))
    before = dict(api.objects)
    edit(file, old, new)
    with pytest.raises(WrongRequestError, match=rf"acme in namespace ml grows: a head, .*{price}"):
        verbs.up(Request(file, json=True))
    assert api.objects == before
    verbs.up(Request(file, json=True, yes=True))
    verbs.up(Request(file, json=True))


@pytest.mark.parametrize(("old", "new"), AS_DEAR)
def test_up_does_not_ask_where_nothing_costs_more(api, file, old, new):
    verbs.up(Request(file, json=True, yes=True))
    edit(file, old, new)
    verbs.up(Request(file, json=True))


def test_other_nodes_that_nobody_prices_are_asked_about(api, file):
    edit(file, ", price: 5 USD/h", "")
    verbs.up(Request(file, json=True, yes=True))
    verbs.up(Request(file, json=True))
    edit(file, "T4:4", "L4:4")
    with pytest.raises(WrongRequestError, match=r"acme in namespace ml grows: .*L4:4"):
        verbs.up(Request(file, json=True))


def test_services_are_asked_about_once_and_when_they_grow(api, file, tokens):
    with pytest.raises(WrongRequestError, match=r"start the services of acme .* 5.00 to 10.00 USD"):
        deploy_rayservice(Request(detach=True), load(file), ["a"], tokens)
    assert ("rayservices", "acme-serve") not in api.objects
    deploy_rayservice(Request(detach=True, yes=True), load(file), ["a"], tokens)
    deploy_rayservice(Request(detach=True), load(file), ["b"], tokens)  # in place, as run does it
    edit(file, "1..2", "3")
    with pytest.raises(WrongRequestError, match=r"services of acme in namespace ml grow: .* 15.00"):
        deploy_rayservice(Request(detach=True), load(file), ["b"], tokens)
    with pytest.raises(WrongRequestError, match="services of acme in namespace ml grow"):
        stop_rayservice(Request(), load(file), "a", tokens)


def test_a_bill_names_the_table_and_what_it_does_not_know(spec_of):
    pools = (
        "pools: [{name: gpu, nodes: 0..2, accelerators: H100:8, spot: true}, {name: x, cpus: 3}]"
    )
    found = bill(spec := spec_of(pools, provider="platform: eks"), spec.cluster.pools)
    assert found.startswith("a head, 0..2 nodes of gpu (H100:8), spot, 1 nodes of x: 0.20 to ")
    spec = spec_of(pools, provider="queue: team, platform: any")
    assert "no price is known of gpu, x (price: of a pool says it)" in bill(
        spec, spec.cluster.pools
    )
    spec = spec_of(f"{pools[:-2]}, price: 1 EUR/h}}]", provider="queue: team")
    assert ": 1.00 EUR an hour; no price is known of gpu" in bill(spec, spec.cluster.pools)
