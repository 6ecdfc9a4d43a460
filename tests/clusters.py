"""A small local cluster of its own, and runs on it through the entry point that users have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cluster import client, local
from cluster.connection import Connection
from cluster.processes import owned
from cluster.spec import Spec
from cluster.spec.clusters import POOL
from cluster.staging import SPEC_FILE
from cluster.storage import open_storage
from jobs.runs import Run
from jobs.stages import find_data_digest, train_digest
from jobs.submissions import submit
from tests.trainings import MODEL

OBJECT_STORE_BYTES = 100 * 2**20
TIMEOUT_S = 3600.0


@contextmanager
def own_cluster(spec: Spec, state: Path) -> Iterator[Connection]:
    """The spec's cluster, its records in the folder ``state``; ended at the end of the block."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(state)
    try:
        yield local.start(spec, object_store_bytes=OBJECT_STORE_BYTES)
    finally:
        local.stop(spec)
        os.environ.pop("XDG_STATE_HOME")
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before


def open_run(spec: Spec, again: bool = False, name: str = MODEL) -> Run:
    """The run that training a model of the spec is."""
    storage = open_storage(spec.cluster.storage, spec.name)
    model = spec.model(name)
    digest = train_digest(model, find_data_digest(model, lambda line: None, storage))
    return Run.open(storage, name, "train", digest, again)


def start_run(connection: Connection, spec: Spec, run: Run, until: str = "train") -> str:
    """Submit a job for the run as ``slipway train`` does; the job's id."""
    name = run.info()["model"]
    arguments = ["jobs.pretrain", SPEC_FILE, name, "--until", until, "--run", run.id]
    return submit(connection, spec, run, arguments)


def finish(connection: Connection, job: str) -> None:
    """Wait for the job's end; AssertionError with its last output where it failed."""
    state = client.wait(connection, job, TIMEOUT_S)
    if state.status != "SUCCEEDED":
        raise AssertionError(f"{job} {state.status}: {state.message[-2000:]}")


def train(
    connection: Connection,
    spec: Spec,
    again: bool = False,
    until: str = "train",
    name: str = MODEL,
) -> Run:
    """Train a model of the spec from submission to result."""
    run = open_run(spec, again, name)
    finish(connection, start_run(connection, spec, run, until))
    return run


def training_workers(spec: Spec) -> list[psutil.Process]:
    """The processes of this cluster that train."""
    mark = local.home_of(spec).mark
    return [p for p in owned(mark) if "RayTrainWorker" in " ".join(p.cmdline()[:1])]


NODE = """
import sys, threading, ray._private.node, ray._private.parameter
ports = ("min_worker_port", "max_worker_port", "object_manager_port", "node_manager_port",
         "dashboard_agent_listen_port", "metrics_agent_port", "runtime_env_agent_port",
         "metrics_export_port")
parameters = ray._private.parameter.RayParams(
    gcs_address=sys.argv[1], node_ip_address="127.0.0.1", num_cpus=int(sys.argv[2]),
    num_gpus=int(sys.argv[3]), labels={sys.argv[4]: "away"}, object_store_memory=100_000_000,
    **dict.fromkeys(ports, 0))
node = ray._private.node.Node(
    parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)
print(node._node_id, flush=True)
threading.Event().wait()
"""
"""What `ray start --address` does, which would leave the loopback."""


@contextmanager
def another_node(spec: Spec, up: Connection, cpus: int, gpus: int = 0) -> Iterator[str]:
    """A second raylet beside the head's, by its id; the cluster's end ends what is left of it.

    It is of the pool "away", and has as many GPUs as it is told: Ray hands them out unseen.
    """
    with subprocess.Popen(
        [sys.executable, "-c", NODE, up.address, str(cpus), str(gpus), POOL],
        env=environment_of(spec),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            _kill(psutil.Process(child.pid))


def environment_of(spec: Spec) -> dict[str, str]:
    """The cluster's own."""
    record = local.home_of(spec).record()
    assert record is not None
    return psutil.Process(record.processes["raylet"][0]).environ()


def _kill(process: psutil.Process) -> None:
    """A process and all that it started."""
    with suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
