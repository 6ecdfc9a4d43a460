"""What ``ray up`` is given: right by the launcher's schema and by EC2's own."""

from __future__ import annotations

import os
import subprocess
import textwrap

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.documents import read_document, write_documents
from cluster.launcher.documents import FILES, launcher_document, launcher_documents
from cluster.launcher.installation import pins
from cluster.launcher.startup import LIBRARY, environment_command
from cluster.machines import GIB, kinds
from cluster.request import Request
from cluster.spec import SpecError, load
from cluster.verbs import render

CLOUDS = {
    "aws": "{type: aws, region: eu-west-1, zones: [eu-west-1b, eu-west-1a], disk_gb: 500}",
    "gcp": "{type: gcp, region: europe-west4, project: acme}",
    "azure": "{type: azure, region: westeurope, zones: ['1', '2']}",
    "onprem": "{type: onprem, head: 10.77.0.11, user: root, key: ~/.ssh/id, port: 2222, "
    "hosts: [{address: 10.77.0.12, pool: cpu}, {address: node3, pool: gpu}]}",
}
POOLS = """\
pools:
  - {name: gpu, nodes: 0..4, accelerators: [H100:8, A100:8], spot: true}
  - {name: cpu, nodes: 1..3, cpus: 16, memory: 100Gi}
"""
ONPREM_POOLS = """\
pools:
  - {name: gpu, nodes: 0..1, accelerators: [L4:2]}
  - {name: cpu, nodes: 1..1, cpus: 16, memory: 100Gi}
"""
MORE = """\
env: {HF_TOKEN: {secret: hf/token}, QUOTED: "it's $HOME"}
idle_timeout: 5m
"""


@pytest.fixture
def spec_on(tmp_path):
    def make(provider, cluster=None):
        path = tmp_path / "cluster.yaml"
        pools = cluster or (ONPREM_POOLS if provider == "onprem" else POOLS) + MORE
        path.write_text(
            f"name: acme\ncluster:\n  provider: {CLOUDS.get(provider, provider)}\n"
            "  storage: s3://bucket/team\n" + textwrap.indent(pools, "  ")
        )
        return load(path)

    return make


@pytest.fixture(scope="session")
def check():
    """Ray's own check, after the document went through YAML."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    def run(document):
        read = yaml.safe_load(write_documents([document]))
        assert read == document
        prepared = prepare_config(read)
        validate_config(prepared)
        return prepared

    return run


@pytest.fixture(scope="session")
def run_instances():
    model = botocore.session.get_session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape

    def faults(config):
        parameters = {k: v for k, v in config.items() if k not in ("SubnetIds",)}
        return ParamValidator().validate(parameters | {"MinCount": 1, "MaxCount": 1}, shape)

    return faults


@pytest.mark.parametrize("name", ["aws", "gcp", "azure", "onprem"])
def test_the_files_that_rendering_starts_from_are_valid(name, check):
    assert check(read_document(FILES / f"{name}.yaml"))["provider"]["type"]


@pytest.mark.parametrize("name", sorted(CLOUDS))
def test_ray_takes_every_document(name, spec_on, check):
    document = launcher_document(spec_on(name))
    prepared = check(document)
    assert prepared["idle_timeout_minutes"] == 5
    for command in (*document["head_start_ray_commands"], *document["worker_start_ray_commands"]):
        assert "0.0.0.0" not in command
    # head.py binds the dashboard to the loopback
    assert f"{LIBRARY}/head.py" in document["head_start_ray_commands"][-1]
    assert f"{LIBRARY}/head.py" in document["file_mounts"]


def test_instances_are_what_ec2_takes(spec_on, run_instances):
    types = launcher_document(spec_on("aws"))["available_node_types"]
    assert list(types) == ["head", "gpu-h100-8", "gpu-a100-8", "cpu"]
    for node in types.values():
        report = run_instances(node["node_config"])
        assert not report.has_errors(), report.generate_report()
    first, second = types["gpu-h100-8"], types["gpu-a100-8"]
    assert first["node_config"]["InstanceType"] == "p5.48xlarge"
    assert second["node_config"]["InstanceType"] == "p4d.24xlarge"
    assert first["priority"] > second["priority"]
    assert first["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert first["resources"] == {"CPU": 192, "GPU": 8}
    cpu = types["cpu"]
    assert cpu["node_config"]["InstanceType"] == "r7i.4xlarge"
    assert (cpu["min_workers"], cpu["max_workers"]) == (1, 3)
    assert "InstanceMarketOptions" not in cpu["node_config"]
    assert cpu["node_config"]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 500
    assert types["head"]["resources"] == {"CPU": 0}


def test_a_wrong_instance_is_found_by_the_shape(run_instances):
    assert run_instances({"InstanceType": 5, "ImageID": "x"}).has_errors()


def test_zones_are_tried_in_order_and_nothing_is_left_stopped(spec_on):
    provider = launcher_document(spec_on("aws"))["provider"]
    assert provider["availability_zone"] == "eu-west-1b,eu-west-1a"
    assert provider["cache_stopped_nodes"] is False


def test_an_instance_can_be_named(spec_on):
    pools = "pools: [{name: gpu, accelerators: B300:8, instance: p6-b300.48xlarge}]"
    types = launcher_document(spec_on("{type: aws, image: ami-1}", pools))["available_node_types"]
    assert types["gpu"]["node_config"]["InstanceType"] == "p6-b300.48xlarge"
    assert types["gpu"]["node_config"]["ImageId"] == "ami-1"
    assert types["gpu"]["resources"] == {"GPU": 8}


def test_rights_are_narrowed_to_the_bucket_and_own_instances(spec_on):
    head, worker, _ = launcher_documents(spec_on("aws"))
    storage = [s for s in worker["policy"]["Statement"] if "s3:PutObject" in s["Action"]]
    assert storage[0]["Resource"] == "arn:aws:s3:::bucket/team/acme/*"
    assert not any("ec2" in str(s["Action"]) for s in worker["policy"]["Statement"])
    statements = {s["Sid"]: s for s in head["policy"]["Statement"]}
    assert not any("*" in str(s["Action"]) for n, s in statements.items() if n != "See")
    tag = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "acme"}}
    assert statements["TagAndEndOwn"]["Condition"] == tag
    assert statements["GiveWorkersTheirRole"]["Resource"].endswith("role/slipway-acme-worker")
    assert [s["Sid"] for s in statements.values() if s["Resource"] == "*"] == ["See"]


def test_machines_get_the_versions_that_the_tests_ran_with(spec_on):
    commands = "\n".join(launcher_document(spec_on("aws"))["setup_commands"])
    assert {"ray==2.60.0", "torch==2.13.0"} <= set(pins())
    for pin in pins():
        assert pin in commands
    assert "pip install --quiet -c ~/.slipway/constraints.txt" in commands


def test_secrets_are_sent_as_files_and_stand_nowhere(spec_on):
    spec = spec_on("aws")
    mounts = launcher_document(spec)["file_mounts"]
    assert mounts["~/.slipway/secrets/hf/token"] == "~/.config/slipway/secrets/hf/token"
    assert mounts["~/.slipway/token"].endswith("/acme-aws/token")


def test_the_environment_is_what_the_spec_says(spec_on, tmp_path):
    (tmp_path / ".slipway/secrets/hf").mkdir(parents=True)
    (tmp_path / ".slipway/secrets/hf/token").write_text("hush\n")
    (tmp_path / ".bashrc").write_text("case $- in *i*) ;; *) return ;; esac\n")
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    command = environment_command(spec_on("aws"))
    for _ in range(2):  # it may run again
        subprocess.run(["bash", "-c", command], env=home, check=True)
    shown = subprocess.run(
        ["bash", "-c", ". ~/.bashrc; env"], env=home, check=True, capture_output=True, text=True
    ).stdout
    assert "HF_TOKEN=hush\n" in shown
    assert "QUOTED=it's $HOME\n" in shown
    assert "OMP_NUM_THREADS" not in shown
    assert (tmp_path / ".bashrc").read_text().count("slipway") == 1


def test_hosts_are_nodes_of_their_pool(spec_on):
    document = launcher_document(spec_on("onprem"))
    assert document["provider"]["pools"] == {"gpu": ["node3"], "cpu": ["10.77.0.12"]}
    assert document["auth"]["ssh_proxy_command"] == "nc %h 2222"
    types = document["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["gpu"]["resources"] == {"GPU": 2}
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 1)
    assert types["cpu"]["labels"] == {"slipway/pool": "cpu"}
    assert types["cpu"]["resources"] == {
        "CPU": 16,
        "memory": 70 * GIB,
        "object_store_memory": 20 * GIB,
    }


def test_more_hosts_than_a_pool_needs_stand_by(spec_on):
    provider = "{type: onprem, head: a, hosts: [b, c, d]}"
    document = launcher_document(spec_on(provider, "pools: [{name: cpu, nodes: 2}]"))
    assert document["provider"]["pools"] == {"cpu": ["b", "c", "d"]}
    node = document["available_node_types"]["cpu"]
    assert (node["min_workers"], node["max_workers"], document["max_workers"]) == (2, 2, 2)


def test_all_hosts_work_where_there_are_no_pools(spec_on):
    provider = "{type: onprem, head: a, hosts: [b, c]}"
    node = launcher_document(spec_on(provider, "head: {}"))["available_node_types"]["hosts"]
    assert (node["min_workers"], node["max_workers"], node["labels"]) == (2, 2, {})


@pytest.mark.parametrize("name", sorted(CLOUDS))
def test_render_says_where_nothing_is_started(name, spec_on, tmp_path, capsys):
    spec_on(name)
    render(Request(tmp_path / "cluster.yaml"), spec=False)
    printed, said = capsys.readouterr()
    assert "file_mounts" in list(yaml.safe_load_all(printed))[-1]
    note = f"what Ray's launcher takes on {name}, and does not start it; the files of file_mounts"
    assert (note in said) == (name in ("gcp", "azure"))


clouds = st.sampled_from(["aws", "gcp", "azure"])
pools = st.lists(
    st.fixed_dictionaries(
        {"name": st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True)},
        optional={
            "nodes": st.sampled_from(["0..1", "2", "1..64"]),
            "cpus": st.integers(1, 96),
            "memory": st.sampled_from(["1Gi", "64Gi"]),
            "spot": st.booleans(),
            "instance": st.just("p5.48xlarge"),
            "accelerators": st.lists(
                st.sampled_from([f"{name}:{n}" for name in kinds() for n in (1, 8)]),
                min_size=1,
                max_size=2,
                unique=True,
            ),
        },
    ),
    max_size=3,
)


@settings(max_examples=10, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(cloud=clouds, pools=pools, variables=st.dictionaries(st.just("X"), st.text(max_size=9)))
def test_any_spec_renders_to_what_is_accepted(
    cloud, pools, variables, spec_on, check, run_instances
):
    provider = "{type: gcp, project: p}" if cloud == "gcp" else f"{{type: {cloud}}}"
    try:
        spec = spec_on(provider, _block(pools, variables))
    except SpecError:
        return
    document = launcher_document(spec)
    check(document)
    types = document["available_node_types"] if cloud == "aws" else {}
    assert not any(run_instances(node["node_config"]).has_errors() for node in types.values())


def _block(pools, variables):
    return yaml.safe_dump({"pools": pools, "env": variables}, allow_unicode=True)
