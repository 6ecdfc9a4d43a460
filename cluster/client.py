"""Ray Jobs: submit, follow, stop, and how a job is doing."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import api
from .connection import ClusterError, Connection

# Ray's modules that tell people what they upload.
CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
ENDED = frozenset(("SUCCEEDED", "FAILED", "STOPPED"))
STOP_WAIT_S = 60
"""So long a job that is asked to end may take to save, before Ray kills it; Ray's own 3 s."""
STOPPING = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
"""Variables for every node, whose processes end jobs."""


@dataclass(frozen=True)
class JobState:
    """How a job is doing."""

    submission_id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str
    exit_code: int | None
    started: float | None
    """Seconds since 1970."""
    ended: float | None
    entrypoint: str = ""
    job_id: str | None = None
    """Ray's own id, which its state API names actors and placement groups by."""

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED


def submission_id(run_id: str, attempt: int) -> str:
    """Ray's submission id of one attempt of a run."""
    return f"{run_id}-{attempt}"


def submit(
    connection: Connection,
    run_id: str,
    attempt: int,
    argv: Sequence[str],
    workdir: Path,
    env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> str:
    """Start `python *argv` in a copy of `workdir` on the cluster; returns the submission id.

    It runs on a node with these `labels`, without any on the head, and occupies nothing there:
    workers have it all. A job that has this id already is left alone, so that asking twice starts
    one.

    Raises:
        ClusterError: the cluster cannot be reached or refuses the job.
    """
    name = submission_id(run_id, attempt)
    if job_state(connection, name) is not None:
        return name
    try:
        job_client(connection).submit_job(
            entrypoint=shlex.join([connection.python, *argv]),
            submission_id=name,
            runtime_env={"working_dir": str(workdir), "env_vars": dict(env or {})},
            metadata={"run": run_id, "attempt": str(attempt)},
            entrypoint_label_selector=dict(labels) if labels else None,
        )
    except (RuntimeError, OSError) as error:  # requests' errors of a lost connection, too
        if job_state(connection, name) is not None:
            return name  # another command was quicker, or only the answer was lost
        raise ClusterError(f"the cluster refused the job {name}: {error}") from error
    return name


def job_state(connection: Connection, name: str) -> JobState | None:
    """The state of the job with this submission id; None if there is none."""
    try:
        return _state(api.get(connection, f"/api/jobs/{quote(name)}"))
    except api.MissingError:
        return None


def jobs(connection: Connection) -> list[JobState]:
    """All submitted jobs that the cluster remembers, oldest first."""
    found = api.get(connection, "/api/jobs/")
    states = [_state(job) for job in found if job.get("submission_id")]
    return sorted(states, key=lambda state: state.started or 0.0)


def stop(
    connection: Connection, name: str, timeout_s: float = STOP_WAIT_S + 30.0
) -> JobState | None:
    """Ask the job to end and wait until it has; returns its last state, None if unknown.

    Raises:
        ClusterError: it still runs after `timeout_s`.
    """
    state = job_state(connection, name)
    if state is None or state.is_ended:
        return state
    api.post(connection, f"/api/jobs/{quote(name)}/stop")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        state = job_state(connection, name)
        if state is None or state.is_ended:
            return state
        time.sleep(0.2)
    raise ClusterError(f"the job {name} has not ended within {timeout_s:.0f} s; try again")


def wait(connection: Connection, name: str, timeout_s: float | None = None) -> JobState:
    """Wait until the job has ended; returns its last state, ended or not, at `timeout_s`."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        state = job_state(connection, name)
        if state is None:
            raise ClusterError(f"the cluster knows no job {name}; slipway runs lists all")
        if state.is_ended or (deadline is not None and time.monotonic() >= deadline):
            return state
        time.sleep(0.5)


def job_client(connection: Connection) -> Any:
    """Ray's own client of the job API."""
    if api.is_loopback(connection.api_url):  # else HTTP_PROXY would be sent the token
        for variable in ("NO_PROXY", "no_proxy"):
            hosts = [host for host in os.environ.get(variable, "").split(",") if host]
            os.environ[variable] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))
    import ray.job_submission

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return ray.job_submission.JobSubmissionClient(
            connection.api_url, headers=connection.headers()
        )
    except ConnectionError as error:
        raise api.unreachable(connection, error) from error
    except RuntimeError as error:
        raise ClusterError(f"{connection.api_url}: {error}") from error


def _state(job: Mapping[str, Any]) -> JobState:
    return JobState(
        submission_id=job["submission_id"],
        status=job["status"],
        message=job.get("message") or "",
        exit_code=job.get("driver_exit_code"),
        started=_seconds(job.get("start_time")),
        ended=_seconds(job.get("end_time")),
        entrypoint=job.get("entrypoint") or "",
        job_id=job.get("job_id"),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None
