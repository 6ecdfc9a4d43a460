"""A real Ray cluster on this machine: started, found, used, shared with another, ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster import attach, client, local, processes, status
from cluster.connection import ClusterError, Connection
from cluster.follow import follow
from cluster.home import Record
from cluster.spec import Spec, load

ROOT = Path(__file__).parents[2]
STORE = 200_000_000


WAITS = """
import pathlib, sys, time
import ray
from jobs.driver import join

@ray.remote(num_cpus=0)
def speak(flag):
    while not pathlib.Path(flag).exists():
        print("spoken", time.time(), flush=True)
        time.sleep(0.2)

join()
ray.get(speak.remote(sys.argv[1]))
print("went on")
"""


def write_spec(folder: Path, name: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(
        f"name: {name}\ncluster: {{storage: ./store, pools: [{{name: cpu, cpus: 2}}]}}\n"
    )
    return path


def make_spec(folder: Path, name: str) -> Spec:
    return load(write_spec(folder, name))


@pytest.fixture(scope="module", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return make_spec(tmp_path_factory.mktemp("project"), "one")


@pytest.fixture(scope="module")
def up(spec: Spec, _state: None) -> Iterator[Connection]:
    try:
        yield local.start(spec, object_store_bytes=STORE)
    finally:
        local.stop(spec)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(
        "import sys, time\n"
        "for step in range(int(sys.argv[1])):\n"
        "    print('step', step, flush=True); time.sleep(0.2)\n"
        "sys.exit(int(sys.argv[2]))\n"
    )
    return tmp_path


def test_starting_again_attaches(spec: Spec, up: Connection) -> None:
    assert up.fresh
    again = local.start(spec)
    assert not again.fresh
    assert (again.address, again.api_url) == (up.address, up.api_url)


def test_nothing_listens_beyond_the_loopback(spec: Spec, up: Connection) -> None:
    ours = processes.owned(local.home_of(spec).mark, local.session_of(spec))
    listening = [
        connection.laddr.ip
        for process in ours
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_job_runs_once_and_its_output_arrives(up: Connection, workdir: Path) -> None:
    argv = ["main.py", "3", "0"]
    name = client.submit(up, "tiny-train-0000", 1, argv, workdir)
    assert client.submit(up, "tiny-train-0000", 1, argv, workdir) == name == "tiny-train-0000-1"
    output = "".join(follow(up, name))
    assert [output.count(f"step {step}\n") for step in range(3)] == [1, 1, 1]
    assert client.wait(up, name, 20).status == "SUCCEEDED"


def test_failed_and_stopped_jobs_say_so(up: Connection, workdir: Path) -> None:
    failed = client.submit(up, "tiny-train-0001", 1, ["main.py", "0", "3"], workdir)
    long = client.submit(up, "tiny-train-0002", 1, ["main.py", "500", "0"], workdir)
    state = client.wait(up, failed, 30)
    assert (state.status, state.exit_code) == ("FAILED", 3)
    stopped = client.stop(up, long)
    assert stopped is not None
    assert stopped.status == "STOPPED"
    assert client.job_state(up, "nobody-1") is None


def test_status_names_what_waits(spec: Spec, up: Connection, workdir: Path) -> None:
    (workdir / "greedy.py").write_text(
        "import ray; ray.init()\nray.get(ray.remote(num_gpus=8)(lambda: 1).remote())\n"
    )
    name = client.submit(up, "tiny-train-0003", 1, ["greedy.py"], workdir)
    deadline = time.monotonic() + 60
    why = "waiting for 8 GPUs: the cluster has 0 and may not grow past 0 (cluster.pools[0].nodes)"
    told = []  # that the job has not started yet, first
    while (name, why) not in told and time.monotonic() < deadline:
        time.sleep(0.5)
        told = [(found.job, found.why) for found in status.status(up, spec).waiting]
    client.stop(up, name)
    assert told == [(name, why)]


def test_wrong_token_is_refused(up: Connection, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("wrong" * 8)
    other = Connection("other", "", up.api_url, token)
    with pytest.raises(ClusterError, match="refuses the token"):
        client.jobs(other)
    with pytest.raises(ClusterError, match="asks for a token"):
        client.jobs(Connection("other", "", up.api_url))


def test_attaching_to_it_as_provider_ray(
    up: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert up.token_path is not None
    monkeypatch.setenv("SLIPWAY_SECRETS", str(up.token_path.parent))
    path = tmp_path / "cluster.yaml"
    path.write_text(
        "name: attached\ncluster:\n  storage: ./store\n"
        f"  provider: {{type: ray, address: '{up.api_url}', token: {{secret: token}}}}\n"
    )
    spec = load(path)
    assert client.jobs(attach.connect(spec)) == client.jobs(up)
    monkeypatch.setattr(local, "own_versions", lambda: local.Versions("2.59.0", "3.12"))
    with pytest.raises(ClusterError, match=r"2\.60\.\d.*3\.\d+.*Ray 2\.59\.0 on Python 3\.12"):
        attach.connect(spec)


def test_another_cluster_beside_it(
    spec: Spec, up: Connection, tmp_path: Path, workdir: Path
) -> None:
    other = make_spec(tmp_path, "two")
    (workdir / "nodes.py").write_text(
        "import ray; ray.init(logging_level='ERROR')\n"
        "print('at', ray.get_runtime_context().gcs_address, len(ray.nodes()))\n"
    )
    try:
        second = local.start(other, object_store_bytes=STORE)
        for connection in (second, up):
            name = client.submit(connection, "tiny-nodes-0000", 1, ["nodes.py"], workdir)
            assert f"at {connection.address} 1" in "".join(follow(connection, name))
            assert [node.alive for node in status.status(connection, spec).nodes] == [True]
    finally:
        assert local.stop(other)
    assert local.find(spec) is not None
    assert client.jobs(up)


def test_killed_cluster_starts_anew_and_stop_leaves_nothing(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "three")
    home = local.home_of(spec)
    try:
        first = local.start(spec, object_store_bytes=STORE)
        record = home.record()
        assert record is not None
        kill(record, "raylet", "gcs_server")
        told: list[str] = []
        second = local.start(spec, told.append, object_store_bytes=STORE)
        assert second.fresh
        assert "did not end properly" in told[0]
        assert second.address == first.address
        assert client.jobs(second) == []
    finally:
        session = local.session_of(spec)
        assert local.stop(spec)
    assert processes.owned(home.mark, session) == []
    assert local.find(spec) is None
    assert not home.temp_folders()
    assert local.stop(spec) == []


def test_what_ends_of_the_head_is_started_again(tmp_path: Path, workdir: Path) -> None:
    spec = make_spec(tmp_path, "five")
    (workdir / "waits.py").write_text(WAITS)
    flag = tmp_path / "flag"
    heard: list[str] = []

    def hear() -> None:
        for line in follow(up, name):
            heard.append(line)

    def spoken_since(moment: float) -> bool:
        return any(float(said) > moment for said in re.findall(r"spoken (\S+)", "".join(heard)))

    try:
        up = local.start(spec, object_store_bytes=STORE)
        record = local.home_of(spec).record()
        assert record is not None
        name = client.submit(up, "five-waits-0000", 1, ["waits.py", str(flag)], workdir)
        listener = threading.Thread(target=hear, daemon=True)
        listener.start()
        await_true(lambda: spoken_since(0), 60)
        for kinds in (("gcs_server",), ("dashboard",), ("gcs_server", "dashboard")):
            kill(local.home_of(spec).record(), *kinds)
            again = local.start(spec, object_store_bytes=STORE)
            assert (again.fresh, again.address) == (False, up.address)
            assert [job.submission_id for job in client.jobs(again)] == [name]
        back = time.time()
        await_true(lambda: spoken_since(back), 30)  # a worker's lines, before the end
        flag.touch()
        listener.join(60)
        assert "went on" in "".join(heard)
        second = client.submit(up, "five-waits-0001", 1, ["waits.py", str(flag)], workdir)
        assert "went on" in "".join(follow(up, second))
    finally:
        session = local.session_of(spec)
        assert local.stop(spec)
    assert processes.owned(local.home_of(spec).mark, session) == []


def await_true(look: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill(record: Record | None, *kinds: str) -> None:
    """Kill processes of a head, and wait until they are gone."""
    assert record is not None
    killed = [psutil.Process(record.processes[kind][0]) for kind in kinds]
    for process in killed:
        process.kill()
    assert not psutil.wait_procs(killed, timeout=5)[1]


def test_interrupted_start_leaves_nothing(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, "four")
    code = (  # a suite that was started in the background has Ctrl-C switched off for its children
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from cluster import local; from cluster.spec import load; "
        "local.start(load(sys.argv[1]), object_store_bytes=200_000_000)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cluster.yaml")]
    child = subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.DEVNULL)
    home, deadline = local.home_of(spec), time.monotonic() + 60
    while len(processes.owned(home.mark)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    assert child.wait(60) != 0
    assert processes.owned(home.mark) == []
    assert not home.temp_folders()
    assert home.record() is None
