"""What `up` and `down` do in which order, with the hosts and Ray's launcher played by the test."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.api import UnreachableError
from cluster.attach import connect, connect_existing
from cluster.connection import ClusterError, Connection
from cluster.launcher import applying, attaching, hosts, joining, launching, ssh
from cluster.launcher.home import LaunchHome
from cluster.launcher.tunnel import Tunnel
from cluster.request import Request, WrongRequestError
from cluster.spec import Spec, load
from cluster.verbs import down as end
from cluster.verbs import up as verb

SPEC = """
name: acme
cluster:
  provider: {type: onprem, head: h, hosts: [a, b, c], user: me, python: /opt/py/bin/python}
  storage: s3://bucket
  pools: [{name: cpu, nodes: 2, cpus: 4}]
models:
  m: {domain: text, task: generation, data: "builtin:python-docs", serve: {replicas: 1}}
"""
FACTS = frozenset(("rsync", "python3", "route"))


class World:
    """Hosts: which answer, and whether Ray's head runs."""

    def __init__(self) -> None:
        self.launches = 0
        self.head_is_up = False
        self.silent: set[str] = set()
        self.during_launch: Callable[[], None] = lambda: None
        self.jobs: list[Any] = []
        self.clusters: frozenset[str] = frozenset()

    def look_at(self, login: Any, addresses: Any) -> Any:
        looks = [hosts.Look(each, 0.0, 99_999_999, FACTS, self.clusters) for each in addresses]
        lines = {each: f"{each}: is off" for each in addresses if each in self.silent}
        return [look for look in looks if look.host not in self.silent], lines

    def launch(self, spec: Spec, home: LaunchHome, report: Any) -> None:
        self.launches += 1
        self.during_launch()
        self.head_is_up = True

    def check(self, connection: Connection) -> None:
        if not self.head_is_up:
            raise UnreachableError("no Ray answers")

    def end(self, login: Any, spec: Spec, provider: Any) -> Any:
        ended, self.head_is_up = 9 * self.head_is_up, False
        return ended, {each: f"{each}: is off" for each in self.silent}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SLIPWAY_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.setattr(hosts, "look_at", world.look_at)
    monkeypatch.setattr(attaching, "look_at", world.look_at)
    monkeypatch.setattr(hosts, "end", world.end)
    monkeypatch.setattr(launching, "launch", world.launch)
    for module in (applying, attaching, joining):
        monkeypatch.setattr(module, "check_versions", world.check)
    monkeypatch.setattr(Tunnel, "open", lambda tunnel: "http://127.0.0.1:1")
    monkeypatch.setattr(Tunnel, "close", lambda tunnel: None)
    monkeypatch.setattr(joining, "await_hosts", lambda *_: None)
    monkeypatch.setattr("cluster.client.jobs", lambda connection: world.jobs)
    monkeypatch.setattr("cluster.services.applications", lambda connection: {})
    return world


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    (tmp_path / "cluster.yaml").write_text(SPEC)
    return load(tmp_path / "cluster.yaml")


def up(spec: Spec) -> applying.Applied:
    return applying.up(spec, lambda line: None, lambda *_: None)


def test_up_twice_changes_nothing_and_down_forgets_all(world: World, spec: Spec) -> None:
    assert connect_existing(spec) is None
    assert up(spec).changed
    home = LaunchHome(spec)
    assert stat.S_IMODE(home.token.stat().st_mode) == 0o600
    token = home.token.read_text()
    again = up(spec)
    assert not again.changed
    assert (world.launches, home.token.read_text()) == (1, token)
    assert connect(spec).token() == token
    assert applying.down(spec, lambda line: None).count == 9
    assert not home.folder.exists()
    assert connect_existing(spec) is None


def test_what_was_interrupted_is_finished_by_the_next_up(world: World, spec: Spec) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    world.during_launch = interrupt
    with pytest.raises(KeyboardInterrupt):
        up(spec)
    with pytest.raises(ClusterError, match="begun and not finished: slipway up finishes it"):
        connect(spec)
    world.during_launch = lambda: None
    assert up(spec).changed
    assert connect(spec).id == "acme"


def test_waiting_for_hosts_goes_on_without_another_start(
    world: World, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(*_: Any) -> None:
        raise ClusterError("0 of 2 hosts joined")

    monkeypatch.setattr(joining, "await_hosts", too_long)
    with pytest.raises(ClusterError, match="0 of 2"):
        up(spec)
    monkeypatch.setattr(joining, "await_hosts", lambda *_: None)
    assert up(spec).changed
    assert not up(spec).changed
    assert world.launches == 1


@pytest.mark.parametrize("again", [False, True], ids=["new", "after the head died"])
def test_two_ups_at_once_start_ray_once(world: World, spec: Spec, again: bool) -> None:
    if again:
        up(spec)
        world.head_is_up, world.launches = False, 0
    found: list[tuple[bool, str]] = []
    waits = threading.Event()

    def both() -> None:
        applied = applying.up(spec, tell, lambda *_: None)
        found.append((applied.changed, applied.connection.token() or ""))

    def tell(line: str) -> None:
        if "waiting for it" in line:
            waits.set()

    second = threading.Thread(target=both)

    def meanwhile() -> None:
        if world.launches == 1:
            second.start()
            assert waits.wait(60)

    world.during_launch = meanwhile
    both()
    second.join(30)
    assert (world.launches, sorted(changed for changed, _ in found)) == (1, [False, True])
    assert len({token for _, token in found}) == 1


def test_a_head_that_died_is_started_again(world: World, spec: Spec) -> None:
    up(spec)
    world.head_is_up = False
    assert up(spec).changed
    assert world.launches == 2


def test_a_changed_spec_restarts_ray_only_where_nothing_runs(
    world: World, spec: Spec, tmp_path: Path
) -> None:
    up(spec)
    path = tmp_path / "cluster.yaml"
    path.write_text(SPEC.replace("cpus: 4", "cpus: 8"))
    world.jobs = [type("Job", (), {"submission_id": "m-train-1", "is_ended": False})()]
    with pytest.raises(WrongRequestError, match=r"has changed.*m-train-1 would end; up -y"):
        verb(Request(path, json=True))
    assert world.launches == 1
    verb(Request(path, json=True, yes=True))
    assert world.launches == 2


def test_spare_hosts_may_be_off_but_not_the_head(world: World, spec: Spec) -> None:
    world.silent = {"c"}
    told: list[str] = []
    applying.up(spec, told.append, lambda *_: None)
    assert "left out for now: c: is off" in told
    applying.down(spec, lambda line: None)
    for silent in ({"h"}, {"b", "c"}):
        world.silent = silent
        with pytest.raises(ClusterError, match=f"cannot be used:\n  {min(silent)}: is off"):
            up(spec)
    assert world.launches == 1


def test_down_says_when_the_head_was_out_of_reach(world: World, spec: Spec) -> None:
    up(spec)
    world.silent = {"h"}
    with pytest.raises(ClusterError, match="may still be up: h: is off"):
        applying.down(spec, lambda line: None)
    assert LaunchHome(spec).launched() is not None


def test_another_cluster_of_the_name_is_left_alone(
    world: World, spec: Spec, tmp_path: Path
) -> None:
    up(spec)
    (tmp_path / "cluster.yaml").write_text(SPEC.replace("s3://bucket", "s3://other"))
    other = load(tmp_path / "cluster.yaml")
    for call in (lambda: up(other), lambda: connect(other), lambda: applying.down(other, print)):
        with pytest.raises(ClusterError, match="with its storage at s3://bucket was begun"):
            call()


def test_another_head_is_refused_while_the_cluster_is_up(
    world: World, spec: Spec, tmp_path: Path
) -> None:
    up(spec)
    (tmp_path / "cluster.yaml").write_text(SPEC.replace("head: h", "head: g"))
    other = load(tmp_path / "cluster.yaml")
    for call in (lambda: up(other), lambda: connect(other), lambda: applying.down(other, print)):
        with pytest.raises(ClusterError, match="begun with head: h, not with head: g; slipway dow"):
            call()
    home = LaunchHome(spec)
    record = json.loads((home.folder / "launch.json").read_text())
    del record["place"]  # as earlier versions wrote it
    (home.folder / "launch.json").write_text(json.dumps(record))
    assert not up(spec).changed


def test_a_cluster_that_a_colleague_started_is_used_with_its_own_token(
    world: World, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.head_is_up, world.clusters = True, frozenset(("acme",))
    asked: list[str] = []

    def run(login: Any, host: str, script: str) -> ssh.Answer:
        asked.append(f"{host}: {script}")
        return ssh.Answer(host, 0, "their-token\n", "")

    monkeypatch.setattr(ssh, "run", run)
    connection = connect(spec)
    assert connection.token() == "their-token"
    assert asked == ["h: cat ~/.slipway/token"]
    assert not up(spec).changed
    assert world.launches == 0


def test_hosts_that_cannot_be_asked_are_ended_only_when_told(
    world: World, spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(tmp_path / "cluster.yaml", json=True)
    up(spec)
    monkeypatch.setattr(attaching, "check_versions", lost)
    with pytest.raises(WrongRequestError, match="cannot be told: no way there; slipway down -y e"):
        end(request)
    LaunchHome(spec).forget()  # as on a colleague's machine
    world.silent, world.clusters = {"h"}, frozenset(("acme",))
    with pytest.raises(WrongRequestError, match="cannot be told: h: is off; slipway down -y ends"):
        end(request)
    world.silent = set()
    monkeypatch.setattr(ssh, "run", lambda login, host, _: ssh.Answer(host, 1, "", "no such file"))
    with pytest.raises(WrongRequestError, match="h holds a cluster acme that this machine did not"):
        end(request)
    assert world.head_is_up


def lost(connection: Connection) -> None:
    raise UnreachableError("no way there")


def test_secrets_that_are_absent_are_named_before_a_host_is_asked(
    world: World, tmp_path: Path
) -> None:
    storage = "storage: {url: s3://bucket, credentials: {secret: s3}}"
    (tmp_path / "cluster.yaml").write_text(SPEC.replace("storage: s3://bucket", storage))
    with pytest.raises(ClusterError, match=r"secret s3/access_key: there is no .*\nsecret s3/sec"):
        up(load(tmp_path / "cluster.yaml"))
    assert world.launches == 0
