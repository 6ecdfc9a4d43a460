"""Ray jobs of a run: each recorded in its folder before it starts, so that none starts twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster import client
from cluster.connection import Connection
from cluster.spec import Spec
from cluster.spec.places import off_head
from cluster.staging import stage
from cluster.storage import MissingError, encode_json
from jobs.runs import Run, owner


def submissions(run: Run) -> list[dict[str, Any]]:
    """Return the run's jobs, oldest first: ``{"submission", "cluster", "time", "owner"}``."""
    folder = f"{run.path}/submissions"
    entries = [run.storage.read_json(entry.path) for entry in run.storage.list(folder)]
    return sorted(entries, key=lambda entry: entry["time"])


def record(run: Run, submission: str, cluster: str) -> bool:
    """Record a job by its submission id; False where it is known already."""
    content = {"submission": submission, "cluster": cluster, "time": time.time(), "owner": owner()}
    return run.storage.create(f"{run.path}/submissions/{submission}.json", encode_json(content))


@dataclass(frozen=True)
class End:
    """How a job ended, by its own account."""

    exit_code: int
    reason: str = ""


def record_end(run: Run, submission: str, end: End) -> None:
    """Keep how a job ended, where nobody reads its exit code."""
    run.storage.write_json(f"{run.path}/ends/{submission}.json", asdict(end))


def last_end(run: Run) -> End | None:
    """How the run's last job ended; None where it kept nothing of it: it runs, or was lost."""
    known = submissions(run)
    if not known:
        return None
    try:
        return End(**run.storage.read_json(f"{run.path}/ends/{known[-1]['submission']}.json"))
    except MissingError:
        return None


def under_way(connection: Connection, run: Run) -> str | None:
    """Return the submission id of a job of this run that has not ended."""
    for entry in reversed(submissions(run)):
        if entry["cluster"] in (connection.id, ""):  # by hand on a cluster that others run
            state = client.job_state(connection, entry["submission"])
            if state is not None and not state.is_ended:
                return str(entry["submission"])
    return None


def submit(connection: Connection, spec: Spec, run: Run, arguments: Sequence[str]) -> str:
    """Start ``python -m ARGUMENTS`` for the run on the cluster; returns the submission id."""
    number = len(submissions(run)) + 1
    while not record(run, client.submission_id(run.id, number), connection.id):
        number += 1
    labels = off_head(spec.cluster, spec.cluster.pools)
    return client.submit(connection, run.id, number, ["-m", *arguments], stage(spec), labels=labels)
