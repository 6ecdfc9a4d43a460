"""A driver's hold on a run: one driver works, the others wait for its result."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any, Self

import psutil

from cluster.lease import Held, Lease
from jobs.logbook import Logbook
from jobs.runs import Run
from jobs.submissions import record

LOOK_EVERY_S = 2.0


def submission_id() -> str | None:
    """Ray's id of the job this driver is, whoever submitted it; None outside of one."""
    config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    name = config.get("metadata", {}).get("job_submission_id")
    return str(name) if name else None


def spec_root(path: str) -> Path | None:
    """Folder that relative paths of the spec start at: None for the YAML's own.

    A YAML that came with ``ray job submit --working-dir`` lies in a copy that Ray will delete;
    its paths mean the folder that the cluster was started from, which the cluster's environment
    names.
    """
    root = os.environ.get("SLIPWAY_ROOT")
    inside = "_ray_pkg_" in str(Path(path).resolve())
    return Path(root) if root and inside else None


def say(text: str) -> None:
    """Print lines for people; the mark tells them from what libraries print around them."""
    for line in text.split("\n"):
        print(f"| {line}", flush=True)


def log_path(run: Run) -> str:
    """Where the log of this process is kept: by its submission id, which holds the attempt."""
    name = submission_id() or f"{socket.gethostname()}-{os.getpid()}"
    return f"{run.path}/logs/{name}.log"


class Session:
    """The lease of one driver's work on a run, whose log goes beside it.

    ``mine`` says whether this driver holds the run; else another finished it in the meantime.
    """

    def __init__(self, run: Run, logbook: Logbook) -> None:
        self.run, self.mine = run, False
        logbook.keep(run.storage, log_path(run))
        self.submission = submission_id()
        self._lease: Lease | None = None

    def __enter__(self) -> Self:
        self._lease = self._acquire()
        self.mine = self._lease is not None
        if self._lease is not None:
            self._lease.__enter__()
            if self.submission:  # jobs submitted by hand are recorded here
                record(self.run, self.submission, os.environ.get("SLIPWAY_CLUSTER_ID", ""))
        return self

    def _acquire(self) -> Lease | None:
        """Take the run's lease, or wait while another driver works on it."""
        holder = this_process() | {"submission": self.submission}
        announced = False
        while self.run.result() is None:
            try:
                path = f"{self.run.path}/lease.json"
                lease = Lease.acquire(self.run.storage, path, holder, is_dead)
                # Another driver may have finished between the look and the lease.
                if self.run.result() is None:
                    return lease
                lease.release()
            except Held as held:
                if not announced:
                    who = held.holder.get("submission") or f"process {held.holder.get('pid')}"
                    say(f"{self.run.id} is under way in {who}; waiting for its result")
                announced = True
                time.sleep(LOOK_EVERY_S)
        return None

    def __exit__(self, *error: Any) -> None:
        if self._lease is not None:
            self._lease.__exit__(*error)


def this_process() -> dict[str, Any]:
    """What tells other drivers who holds a lease, and `is_dead` whether it still lives."""
    began = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": began}


def is_dead(holder: dict[str, Any]) -> bool:
    """Know a holder on this machine to be gone; of others, only time tells."""
    if holder.get("host") != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(holder["pid"]).create_time() != holder["began"])
    except psutil.NoSuchProcess:
        return True
