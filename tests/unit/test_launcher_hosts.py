"""Hosts of one's own: which is taken when, what is seen of them, and what ssh's refusals mean."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster.connection import ClusterError, Connection
from cluster.launcher import joining, ssh
from cluster.launcher.hosts import CLOCKS_APART_S, faults, read_look
from cluster.launcher.launching import cause, steps
from cluster.launcher.onprem import PROVIDER
from cluster.spec import Spec, load

HEAD = {"ray-node-type": "head", "ray-user-node-type": "head"}
WORKER = {"ray-node-type": "worker", "ray-user-node-type": "cpu"}
CONFIG = {"type": "external", "head_ip": "10.0.0.1", "pools": {"cpu": ["10.0.0.2", "10.0.0.3"]}}
SPEC = """
name: acme
cluster:
  provider: {type: onprem, head: h, hosts: [a, b], user: me, python: /opt/py/bin/python}
  storage: s3://bucket
models:
  m: {domain: text, task: generation, data: "builtin:python-docs"}
"""


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A maker of providers that share one file of state, as on a head."""
    monkeypatch.delenv("SLIPWAY_HOSTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = importlib.util.spec_from_file_location("slipway_hosts", PROVIDER)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return lambda: module.Hosts(CONFIG, "acme")


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    (tmp_path / "cluster.yaml").write_text(SPEC)
    return load(tmp_path / "cluster.yaml")


def addresses(hosts: Any) -> list[str]:
    return [hosts.internal_ip(node) for node in hosts.non_terminated_nodes(WORKER)]


def test_on_the_head_the_head_is_there_from_the_start(provider: Any) -> None:
    hosts = provider()
    assert hosts.non_terminated_nodes(HEAD) == ["10.0.0.1"]
    assert hosts.non_terminated_nodes(WORKER) == []


def test_on_the_laptop_the_head_is_made(
    provider: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOSTS", str(tmp_path / "state.json"))
    hosts = provider()
    assert hosts.non_terminated_nodes({}) == []
    hosts.create_node({}, HEAD | {"ray-launch-config": "x"}, 1)
    assert provider().non_terminated_nodes({"ray-launch-config": "x"}) == ["10.0.0.1"]


def test_a_host_that_was_given_up_comes_after_one_that_stands_by(provider: Any) -> None:
    hosts = provider()
    hosts.create_node({"pool": "cpu"}, WORKER, 1)
    (first,) = hosts.non_terminated_nodes(WORKER)
    assert addresses(hosts) == ["10.0.0.2"]
    hosts.terminate_node(first)
    hosts.create_node({"pool": "cpu"}, WORKER, 1)
    assert addresses(hosts) == ["10.0.0.3"]
    hosts.create_node({"pool": "cpu"}, WORKER, 5)  # no more than there are
    assert addresses(hosts) == ["10.0.0.3", "10.0.0.2"]
    # Ray never updates a node again that failed once: the same host is another node
    assert first not in hosts.non_terminated_nodes({})


def test_hosts_are_known_again_after_a_restart(provider: Any) -> None:
    hosts = provider()
    hosts.create_node({"pool": "cpu"}, WORKER, 1)
    (node,) = hosts.non_terminated_nodes(WORKER)
    hosts.set_node_tags(node, {"ray-node-status": "up-to-date"})
    again = provider()
    assert again.node_tags(node)["ray-node-status"] == "up-to-date"
    assert again.is_running(node)
    again.terminate_node(node)
    again.set_node_tags(node, {"ray-node-status": "late"})  # an updater that ends afterwards
    assert again.is_terminated(node)
    assert again.node_tags(node) == {}
    assert json.loads((Path.home() / ".slipway/hosts.json").read_text())["count"] == 1


LOOK = "clock 1000\ndisk 99999999\nhas rsync\nhas python3\nhas route\n"


def look(output: str, asked: float = 1000.0) -> Any:
    return read_look(ssh.Answer("a", 0, output, ""), asked, asked + 3)  # ssh takes its time


def test_a_host_that_has_all_is_taken(spec: Spec) -> None:
    assert faults([look(LOOK + "SLIPWAY_CLUSTER=acme\n")], spec) == []


@pytest.mark.parametrize(
    ("output", "asked", "message"),
    [
        (LOOK.replace("has rsync\n", ""), 1000.0, "no rsync; apt install rsync"),
        (LOOK.replace("has route\n", ""), 1000.0, "no default route.*ip route add"),
        (LOOK.replace("99999999", "999999"), 1000.0, "1.0 GiB free at ~, 1 are needed"),
        (LOOK, 1000.0 + 2 * CLOCKS_APART_S, "10 s slow against.*set-ntp"),
        (LOOK, 977.0, "20 s fast against"),
        (LOOK + "SLIPWAY_CLUSTER=other\n", 1000.0, "belongs to the cluster other"),
    ],
)
def test_what_keeps_a_host_from_being_used(
    spec: Spec, output: str, asked: float, message: str
) -> None:
    (line,) = faults([look(output, asked)], spec)
    assert line.startswith("a: ")
    assert re.search(message, line)


@pytest.mark.parametrize(
    ("errors", "meaning"),
    [
        ("me@a: Permission denied (publickey).", "refuses the login; check cluster.provider.user"),
        ("ssh: connect to host a port 22: Connection refused", "nothing listens at port 22"),
        ("ssh: connect to host a port 22: No route to host", "it is off, or its link is down"),
        ("ssh: connect to host a port 22: Connection timed out", "or a firewall drops port 22"),
        ("ssh: Could not resolve hostname a: unknown", "no host of this name"),
        ("Host key verification failed.", "not the one of last time"),
        ("kex_exchange: something new", "(kex_exchange: something new); try: ssh me@a"),
        ("", "it said nothing"),
    ],
)
def test_refusals_of_ssh_have_a_cause_and_a_remedy(
    tmp_path: Path, errors: str, meaning: str
) -> None:
    line = ssh.refusal(ssh.Login(tmp_path / "known", "me"), "a", errors)
    assert line.startswith("a: ")
    assert meaning in line


def test_ssh_never_asks_and_checks_the_key_of_a_host(tmp_path: Path) -> None:
    login = ssh.Login(tmp_path / "known", "me", "/k", 2222)
    words = " ".join(login.command("a", "-T"))
    for option in ("BatchMode=yes", "StrictHostKeyChecking=accept-new", "-p 2222", "-i /k", "me@a"):
        assert option in words
    assert login.shown("a", "-N") == "ssh -N -p 2222 -i /k me@a"


def test_steps_are_told_once_and_causes_are_found() -> None:
    lines = ["[1/7] Waiting for SSH to become available", "x", "[7/7] Starting the Ray runtime"]
    assert list(steps([*lines, *lines])) == ["head: waiting for ssh", "head: starting Ray"]
    log = "[7/7] Starting\nValueError: --num-cpus\nShared connection to h closed.\n"
    assert cause(log + "!!!\n") == "ValueError: --num-cpus"
    assert cause("") == "it wrote no message"


def test_a_host_that_cannot_be_set_up_is_told_with_its_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive = [{"state": "ALIVE", "is_head_node": True}]
    report = {"autoscalerReport": {"failedNodes": [["10.0.0.2", "cpu"]]}}

    def answer(connection: Connection, path: str) -> Any:
        if "nodes" in path:
            return {"data": {"result": {"result": list(alive)}}}
        return {"data": {"clusterStatus": report}}

    monkeypatch.setattr(joining.api, "get", answer)
    monkeypatch.setattr(joining.time, "sleep", lambda seconds: alive.append({"state": "ALIVE"}))
    told: list[str] = []
    connection = Connection("acme", "", "http://127.0.0.1:1")
    joining.await_hosts(connection, 2, told.append, lambda: "x\nERROR: No space left\n")
    assert told[0] == "waiting for hosts to join: 0 of 2"
    assert told[1].startswith("10.0.0.2 could not be set up: ERROR: No space left; another one")
    assert told[2:] == ["waiting for hosts to join: 1 of 2"]
    alive.clear()
    monkeypatch.setattr(joining, "JOIN_TIMEOUT_S", -1.0)
    with pytest.raises(ClusterError, match=r"0 of 2 hosts joined .*\n  10.0.0.2 could not be set"):
        joining.await_hosts(connection, 2, told.append, lambda: "ERROR: No space left")
