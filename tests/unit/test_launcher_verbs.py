"""What the verbs ask about and refuse on Amazon's machines: against moto, in process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from cluster import verbs
from cluster.api import UnreachableError
from cluster.attach import connect
from cluster.connection import ClusterError
from cluster.launcher import applying, attaching, joining, launching
from cluster.launcher.account import Account
from cluster.launcher.home import LaunchHome
from cluster.launcher.tunnel import Tunnel
from cluster.request import Request, WrongRequestError
from cluster.spec import Spec, load
from tests.unit.test_launcher_account import SPEC, amazon

__all__ = ["amazon"]  # a fixture

Write = Callable[[str], Request]


@pytest.fixture
def write(amazon: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the file, with the launcher and the head played by the test."""

    def launch(spec: Spec, home: LaunchHome, report: Any) -> None:
        provider: Any = spec.cluster.provider
        if not running(provider.region):
            start(provider.region)

    monkeypatch.setattr(launching, "launch", launch)
    for module in (applying, attaching, joining):
        monkeypatch.setattr(module, "check_versions", lambda connection: None)
    monkeypatch.setattr(Tunnel, "open", lambda tunnel: "http://127.0.0.1:1")
    monkeypatch.setattr(Tunnel, "close", lambda tunnel: None)
    monkeypatch.setattr(joining, "await_hosts", lambda *_: None)
    monkeypatch.setattr("cluster.client.jobs", lambda connection: [])
    monkeypatch.setattr("cluster.services.applications", lambda connection: {})
    monkeypatch.setattr(Account, "_try_machines", lambda site: None)

    def write(text: str, **options: Any) -> Request:
        (tmp_path / "cluster.yaml").write_text(text)
        return Request(tmp_path / "cluster.yaml", json=True, **options)

    return write


def start(region: str) -> None:
    tags = {"ray-cluster-name": "acme", "ray-node-type": "head"}
    rows = [{"Key": key, "Value": value} for key, value in tags.items()]
    boto3.client("ec2", region_name=region).run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": rows}],
    )


def running(region: str = "eu-west-1") -> int:
    found = boto3.client("ec2", region_name=region).describe_instances()["Reservations"]
    states = [one["State"]["Name"] for each in found for one in each["Instances"]]
    return states.count("running")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("eu-west-1", "us-east-1"), "with region: eu-west-1, not with region: us-east-1"),
        (("type: aws,", "type: aws, profile: p,"), "without profile:, not with profile: p"),
    ],
)
def test_a_file_that_names_another_place_is_refused_while_the_cluster_is_up(
    write: Write, changed: tuple[str, str], message: str
) -> None:
    verbs.up(write(SPEC, yes=True))
    other = write(SPEC.replace(*changed), yes=True)
    for call in (verbs.up, verbs.down, lambda request: connect(load(request.file))):
        with pytest.raises(ClusterError, match=f"{message}; slipway down with the file that says"):
            call(other)
    assert (running(), running("us-east-1")) == (1, 0)
    verbs.down(write(SPEC, yes=True))
    assert running() == 0


def test_what_cannot_be_asked_whether_it_is_in_use_is_ended_only_when_told(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_way(tunnel: Tunnel) -> str:
        raise UnreachableError("no answer by ssh")

    verbs.up(write(SPEC, yes=True))
    monkeypatch.setattr(Tunnel, "open", no_way)
    with pytest.raises(WrongRequestError) as refused:
        verbs.down(write(SPEC))
    assert str(refused.value) == (
        "whether it is in use cannot be told: no answer by ssh; slipway down -y ends it all the "
        "same"
    )
    assert running() == 1
    verbs.down(write(SPEC, yes=True))
    assert running() == 0


def test_machines_that_another_computer_began_are_ended_only_when_told(write: Write) -> None:
    start("eu-west-1")
    with pytest.raises(
        WrongRequestError, match=r"told: 1 machines of a cluster acme are in eu-wes"
    ):
        verbs.down(write(SPEC))
    assert running() == 1
    verbs.down(write(SPEC, yes=True))
    verbs.down(write(SPEC))  # nothing is there
    assert running() == 0


def test_what_an_interrupted_up_left_is_ended_without_a_question(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(spec: Spec, home: LaunchHome, report: Any) -> None:
        start("eu-west-1")
        raise KeyboardInterrupt

    monkeypatch.setattr(launching, "launch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        verbs.up(write(SPEC, yes=True))
    verbs.down(write(SPEC))
    assert running() == 0


def test_up_asks_before_the_cluster_may_take_more(write: Write) -> None:
    verbs.up(write(SPEC, yes=True))
    for changed in (
        ("cpu, nodes: 1..3", "cpu, nodes: 500"),
        ("cpu, nodes: 1..3", "cpu, nodes: 2..3"),
        ("cpus: 2", "cpus: 64"),
    ):
        with pytest.raises(WrongRequestError, match=r"let acme grow from a head and 1 to 5 mach"):
            verbs.up(write(SPEC.replace(*changed)))
    verbs.up(write(SPEC.replace("1..3", "1..2")))  # it shrinks
    with pytest.raises(WrongRequestError, match=r"1 to 4 machines: .* to a head, 0..2 machines of"):
        verbs.up(write(SPEC))
    verbs.up(write(SPEC, yes=True))


def test_up_asks_where_an_earlier_version_kept_no_bill(write: Write) -> None:
    verbs.up(write(SPEC, yes=True))
    home = LaunchHome(load(write(SPEC).file))
    record = home.launched()
    assert record is not None
    home.write_launched(replace(record, bill=None))
    verbs.up(write(SPEC))  # nothing changes
    with pytest.raises(WrongRequestError, match="let acme grow from what an earlier version"):
        verbs.up(write(SPEC.replace("1..3", "1..2")))
