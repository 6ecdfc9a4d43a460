"""What ``up`` makes in an account of Amazon's and ``down`` removes: against moto, in process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from cluster.connection import ClusterError
from cluster.launcher import account
from cluster.launcher.account import Account
from cluster.launcher.bill import bill_of, shown_bill
from cluster.launcher.documents import launcher_document
from cluster.launcher.home import LaunchHome
from cluster.prices import price_of
from cluster.spec import Spec, load

REGION = "eu-west-1"
SPEC = """
name: acme
cluster:
  provider: {type: aws, region: eu-west-1, image: ami-12c6146b, private: true}
  storage: s3://bucket/team
  pools:
    - {name: gpu, nodes: 0..2, accelerators: T4:1, spot: true}
    - {name: cpu, nodes: 1..3, cpus: 2}
"""


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(account, "LOOK_S", 0.01)
    with mock_aws():
        yield


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    (tmp_path / "cluster.yaml").write_text(SPEC)
    return load(tmp_path / "cluster.yaml")


@pytest.fixture
def site(amazon: None, spec: Spec) -> Account:
    home = LaunchHome(spec)
    home.create()
    return Account(spec, home)


def ec2() -> Any:
    return boto3.client("ec2", region_name=REGION)


def start(kind: str, name: str = "acme") -> str:
    """As the launcher does."""
    tags = {"ray-cluster-name": name, "ray-node-type": kind}
    rows = [{"Key": key, "Value": value} for key, value in tags.items()]
    made = ec2().run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": rows}],
    )
    return str(made["Instances"][0]["InstanceId"])


def state(name: str) -> str:
    found = ec2().describe_instances(InstanceIds=[name])
    return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])


def said(line: str) -> None:
    assert line


def test_roles_and_key_are_made_once_and_go_with_the_cluster(site: Account, spec: Spec) -> None:
    iam: Any = boto3.client("iam")
    site.check(True, said)
    site.prepare(said)
    key = LaunchHome(spec).key.read_text()
    made = iam.list_roles()["Roles"], ec2().describe_key_pairs()["KeyPairs"]
    site.prepare(said)
    assert (iam.list_roles()["Roles"], ec2().describe_key_pairs()["KeyPairs"]) == made
    assert LaunchHome(spec).key.read_text() == key
    assert {role["RoleName"] for role in made[0]} == {"slipway-acme-head", "slipway-acme-worker"}
    policy = iam.get_role_policy(RoleName="slipway-acme-worker", PolicyName="slipway")
    assert "ec2:RunInstances" not in json.dumps(policy["PolicyDocument"])
    assert site.least() == 1
    assert site.end(said).count == 0
    assert iam.list_roles()["Roles"] == iam.list_instance_profiles()["InstanceProfiles"] == []
    assert ec2().describe_key_pairs()["KeyPairs"] == []


def test_the_head_ends_first_and_no_machine_is_left(site: Account) -> None:
    site.prepare(said)
    head, worker, other = start("head"), start("worker"), start("head", "another")
    ec2().create_security_group(GroupName="slipway-acme", Description="as the launcher makes it")
    [address] = {one["PrivateIpAddress"] for one in site._instances() if one["InstanceId"] == head}
    assert site.head() == address
    assert len(site.addresses()) == 2
    told: list[str] = []
    assert site.end(told.append).count == 2
    assert told[:2] == ["ending 1 machines: the head", "ending 1 machines"]
    assert (state(head), state(worker), state(other)) == ("terminated", "terminated", "running")
    groups = [each["GroupName"] for each in ec2().describe_security_groups()["SecurityGroups"]]
    assert groups == ["default"]


def test_a_name_that_is_taken_in_the_account_is_refused(site: Account) -> None:
    start("head")
    with pytest.raises(ClusterError, match=r"1 machines of a cluster acme are in eu-west-1"):
        site.check(True, said)
    site.check(False, said)


def test_absent_credentials_are_named(
    amazon: None, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ClusterError, match=r"credentials are absent.*aws configure"):
        Account(spec, LaunchHome(spec)).check(True, said)


def test_an_unknown_profile_is_named(amazon: None, tmp_path: Path) -> None:
    text = SPEC.replace("type: aws,", "type: aws, profile: nobody,")
    (tmp_path / "cluster.yaml").write_text(text)
    spec = load(tmp_path / "cluster.yaml")
    with pytest.raises(ClusterError, match=r"nobody.*correct cluster.provider.profile"):
        Account(spec, LaunchHome(spec))


@pytest.mark.parametrize("variable", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_torn_file_of_amazons_settings_is_named(
    amazon: None, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "torn").write_text("[default\nregion")
    monkeypatch.setenv(variable, str(tmp_path / "torn"))
    with pytest.raises(ClusterError, match=rf"/torn; correct the file, or name.*{variable}"):
        Account(spec, LaunchHome(spec))


def test_machines_that_may_not_be_started_are_named_by_their_pool(
    site: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**config: Any) -> None:
        assert config["DryRun"]
        code, text = "DryRunOperation", "it would have worked"
        if config["InstanceType"].startswith("g4dn"):
            code, text = "UnauthorizedOperation", "no"
        raise ClientError({"Error": {"Code": code, "Message": text}}, "RunInstances")

    monkeypatch.setattr(site._ec2, "run_instances", refuse)
    with pytest.raises(ClusterError, match=r"pool gpu cannot be started: .*may not start machines"):
        site.prepare(said)


def test_what_it_costs_an_hour_is_said_before_it_starts(spec: Spec) -> None:
    least = 2 * 0.1008  # the head and one machine of the pool
    most = 4 * 0.1008 + 2 * 1.204  # no spot price of a T4 is known
    assert shown_bill(spec).startswith(
        "a head, 0..2 machines of gpu, 1..3 machines of cpu: "
        f"{least:.2f} to {most:.2f} USD an hour at 20"
    )


def test_the_bill_counts_the_dearest_alternative_within_the_bound(tmp_path: Path) -> None:
    pools = "- {name: gpu, nodes: 1..4, accelerators: [L4:1, A10G:1]}"
    text = SPEC[: SPEC.index("    - {name: gpu")] + f"    {pools}\n"
    (tmp_path / "cluster.yaml").write_text(text)
    spec = load(tmp_path / "cluster.yaml")
    document = launcher_document(spec)
    types = document["available_node_types"]
    assert document["max_workers"] == types["gpu-l4-1"]["max_workers"] == 4
    assert [types[name]["min_workers"] for name in ("gpu-l4-1", "gpu-a10g-1")] == [1, 0]
    first, dearest = (
        price_of(spec, spec.cluster.pools[0], each) for each in spec.cluster.pools[0].accelerators
    )
    assert first
    assert dearest
    assert first.per_hour < dearest.per_hour
    found = bill_of(spec)
    assert (found.least, found.most) == (1, 4)
    assert found.least_cost == pytest.approx(0.1008 + first.per_hour)
    # the one that must be there is of the first kind
    assert found.most_cost == pytest.approx(0.1008 + first.per_hour + 3 * dearest.per_hour)
