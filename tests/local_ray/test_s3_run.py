"""The whole line with all storage on S3: uploads, training, a killed worker, bundle, answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from cluster import local, processes
from cluster.machine import free_ports
from cluster.spec import Spec, load
from cluster.storage import Storage, open_storage
from jobs.runs import Run, joined_metrics, list_runs

ROOT = Path(__file__).parents[2]
KEYS = {"access_key": "AKIDSLIPWAYTEST", "secret_key": "hush-hush-slipway-test"}
SERVER = """
import sys, threading
from moto.server import ThreadedMotoServer
ThreadedMotoServer("127.0.0.1", port=int(sys.argv[1]), verbose=False).start()
threading.Event().wait()
"""
STEPS = 60


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_ports(1)[0]
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    options: dict[str, Any] = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **options)
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket="bucket")
            break
        except Exception:
            assert time.monotonic() < deadline
            time.sleep(0.3)
    yield address
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "secrets" / "s3").mkdir(parents=True)
    for name, value in KEYS.items():
        (folder / "secrets" / "s3" / name).touch(0o600)
        (folder / "secrets" / "s3" / name).write_text(value)
    for i in range(24):
        (folder / f"{i:02}.txt").write_text("".join(f"line {j} of {i}\n" for j in range(300)))
    storage = {"url": "s3://bucket/team", "endpoint": endpoint, "region": "us-east-1"}
    train = {"steps": STEPS, "global_batch": 4, "workers": 2, "checkpoint": {"every": 10}}
    model = {
        "domain": "text",
        "task": "generation",
        "data": {"source": "*.txt", "tokenizer": {"type": "bpe", "size": 300}},
        "network": {"type": "gpt", "layers": 1, "heads": 2, "width": 32, "context": 32},
        "train": train | {"zero": {"stage": 2}},
    }
    cluster = {"storage": storage | {"credentials": {"secret": "s3"}}}
    cluster |= {"pools": [{"name": "cpu", "cpus": 2}]}  # type: ignore[dict-item]
    document = {"name": "s3run", "cluster": cluster, "models": {"m": model}}
    (folder / "cluster.yaml").write_text(json.dumps(document))
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_STATE_HOME", "SLIPWAY_CACHE", "SLIPWAY_SECRETS"):
            patch.setenv(variable, str(folder / variable.rpartition("_")[2].lower()))
        yield folder
        local.stop(load(folder / "cluster.yaml"))


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "slipway.py"), *arguments, "--json"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def answer(folder: Path, *arguments: str) -> Any:
    command = start(folder, *arguments)
    output, errors = command.communicate(timeout=300)
    assert command.returncode == 0, errors[-3000:]
    return json.loads(output)


def kill_first_worker(storage: Storage) -> None:
    """kill -9 of rank 0 once a checkpoint is there."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for run in list_runs(storage):
            if storage.exists(f"{run.path}/1/checkpoints/step-000010/manifest.json"):
                os.kill(run.attempts()[0].info["pid"], signal.SIGKILL)
                return
        time.sleep(0.1)
    raise AssertionError("no checkpoint came up")


def holders_of_the_secret(spec: Spec, storage: Storage) -> list[str]:
    """Where the key pair can be read but must not be."""
    home = local.home_of(spec)
    found = []
    for folder in (home.folder, *home.temp_folders()):
        files = [f for f in folder.rglob("*") if f.is_file() and not f.is_symlink()]
        found += [str(f) for f in files if _has_key(f.read_bytes())]
    found += [entry.path for entry in storage.list() if _has_key(storage.read(entry.path))]
    for process in processes.owned(home.mark, local.session_of(spec)):
        try:
            words = " ".join(process.cmdline()).encode()
        except psutil.Error:
            continue
        found += [f"process {process.pid}"] if _has_key(words) else []
    return found


def _has_key(data: bytes) -> bool:
    return any(value.encode() in data for value in KEYS.values())


def test_run_on_s3(project: Path) -> None:
    spec = load(project / "cluster.yaml")
    storage = open_storage(spec.cluster.storage, spec.name)
    command = start(project, "run")
    try:
        kill_first_worker(storage)
        output, errors = command.communicate(timeout=300)
    finally:
        command.kill()
    assert command.returncode == 0, errors[-3000:]
    done = json.loads(output)
    run = Run(storage, done["run"])
    assert done["status"] == "complete"
    assert done["version"] == 1
    assert done["path"] == storage.url(f"{run.path}/metrics.jsonl")
    resumed = run.attempts()[-1].info["resumes"]
    assert run.attempts()[-1].number == 2
    assert resumed["attempt"] == 1
    assert resumed["step"] >= 10
    lines = storage.read(f"{run.path}/metrics.jsonl").decode().splitlines()
    assert [json.loads(line) for line in lines] == joined_metrics(run)
    assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))
    uploads = storage.list("uploads")
    assert sum(entry.path.endswith(".txt") for entry in uploads) == 24
    assert holders_of_the_secret(spec, storage) == []
    assert not _has_key((output + errors).encode())

    for source in project.glob("*.txt"):  # what comes now needs the sources no more
        os.utime(source, (1, 1))
    assert answer(project, "run")["version"] == 1  # nothing is done again
    assert len(run.attempts()) == 2
    assert [m["version"] for m in answer(project, "models")["models"]] == [1]
    assert answer(project, "evaluate", "m@1")["metrics"]["loss"] > 0
    assert answer(project, "predict", "m", "line", "-p", "max_new_tokens=4")["version"] == 1
    states = {row["run"]: row["state"] for row in answer(project, "runs")["runs"]}
    assert set(states.values()) == {"complete"}
    assert "attempt 2" in str(answer(project, "logs", run.id)["logs"])
