"""`provider: aws` with moto for Amazon and fake hosts for its machines, all through `slipway`.

One cluster for all tests, which build on each other in their order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts.ec2 import KEYS, URL, Amazon, amazon
from tests.hosts.lab import Lab, hosts, lacking, wait_for

WHY_NOT = lacking()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
SECRETS = {"s3/access_key": KEYS["AWS_ACCESS_KEY_ID"]}
SECRETS |= {"s3/secret_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
STEPS = 200


def document() -> dict[str, Any]:
    provider = {
        "type": "aws",
        "region": "us-east-1",
        "image": "ami-12c6146b",
        "private": True,
        "user": "root",
        "python": sys.executable,
    }
    storage = {"url": "s3://bucket/team", "endpoint": URL, "region": "us-east-1"}
    network = {"type": "gpt", "layers": 1, "heads": 2, "width": 32, "context": 32}
    train = {"steps": STEPS, "global_batch": 4, "workers": 2, "zero": {"stage": 2}}
    return {
        "name": "clouded",
        "cluster": {
            "provider": provider,
            "storage": storage | {"credentials": {"secret": "s3"}},
            "pools": [{"name": "spot", "nodes": "0..2", "cpus": 2, "spot": True}],
            "idle_timeout": "20s",
            # for the head's own requests; where there are instance roles it needs none
            "env": KEYS | {"AWS_ENDPOINT_URL": URL},
        },
        "models": {
            "m": {
                "domain": "text",
                "task": "generation",
                "data": {
                    "source": "builtin:python-docs",
                    "tokenizer": {"type": "bpe", "size": 300},
                },
                "network": network,
                "train": train
                | {"pool": "spot", "cpus_per_worker": 2, "checkpoint": {"every": 50}},
            }
        },
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with hosts(tmp_path_factory.mktemp("lab"), 3) as lab:
        lab.write(document(), SECRETS)
        yield lab


@pytest.fixture(scope="module")
def account(lab: Lab) -> Iterator[Amazon]:
    with amazon(lab, 3) as account:
        yield account


def test_up_makes_a_head_alone_and_twice_changes_nothing(lab: Lab, account: Amazon) -> None:
    asked = lab.answer("up", code=2)["errors"][0]["message"]
    assert asked.startswith("start clouded with a head, 0..2 machines of spot: 0.1")
    assert account.instances() == []
    first = lab.answer("up", "-y")
    assert first["fresh"]
    assert first["head"] == account.running()[0]["PrivateIpAddress"]
    second = lab.answer("up")
    assert (second["fresh"], second["dashboard"]) == (False, first["dashboard"])
    assert len(account.instances()) == 1


def test_spot_machines_come_for_a_run_and_go_after_it(lab: Lab, account: Amazon) -> None:
    lab.answer("run", "-y", timeout_s=600)
    (run,) = lab.answer("runs")["runs"]
    assert (run["state"], run["step"]) == ("complete", STEPS)
    assert account.most_spot == 2
    wait_for("the spot machines to end", lambda: len(account.running()) == 1, 180)


def test_down_leaves_no_machine(lab: Lab, account: Amazon) -> None:
    assert lab.answer("down", "-y")["ended"] == 1
    assert account.running() == []
    assert lab.answer("down", "-y")["ended"] == 0
