"""The budget guard on the cluster: one detached actor, beside whichever runs are under way.

The driver of a run starts it; it outlives that driver, and ends itself when no run is left.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import ray
from ray.job_submission import JobSubmissionClient

from cluster.client import ENDED
from cluster.spec import Spec
from cluster.storage import open_storage
from jobs.budget import Watch, look_forever
from jobs.spending import check_budget
from jobs.usage import usages

NAMESPACE = "slipway"
ON_HEAD = {"node:__internal_head__": 0.001}
"""Where it keeps no node from being given back."""


def guard(spec: Spec) -> None:
    """Refuse a run on a spent budget, else see to it that somebody watches what it spends.

    Raises OverBudgetError.
    """
    if spec.cluster.budget is None:
        return
    check_budget(spec, open_storage(spec.cluster.storage, spec.name))
    options = {
        "name": f"slipway-budget-{spec.name}",
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "num_cpus": 0,
        "resources": ON_HEAD,
    }
    actor = ray.remote(Guard).options(**options).remote(spec)
    ray.get(actor.take.remote(spec), timeout=60)


class Guard:
    """Watches in a thread of its own, so that it can be told of a changed spec at any time."""

    def __init__(self, spec: Spec) -> None:
        storage = open_storage(spec.cluster.storage, spec.name)
        self._jobs = _Jobs(spec)
        self._watch = Watch(spec, storage, self._jobs.running, self._jobs.stop, _log)
        threading.Thread(target=look_forever, args=(self._watch, _end), daemon=True).start()

    def take(self, spec: Spec) -> None:
        """The newest spec: its budget and its prices are those that count."""
        self._watch.spec = spec
        self._watch.wake.set()


class _Jobs:
    """The cluster's jobs that are runs of this spec."""

    def __init__(self, spec: Spec) -> None:
        self._spec, self._client = spec, JobSubmissionClient()

    def running(self) -> dict[str, str]:
        """Submitted by us they say which run they are; by hand, what they use does."""
        storage = open_storage(self._spec.cluster.storage, self._spec.name)
        known = {u.submission: u.run for u in usages(storage, time.time() - 86400)}
        found = {}
        for job in self._client.list_jobs():
            name = job.submission_id
            if name is None or str(job.status) in ENDED:
                continue
            run = (job.metadata or {}).get("run") or known.get(name)
            if run is not None:
                found[name] = run
        return found

    def stop(self, submission: str) -> None:
        self._client.stop_job(submission)


def _log(text: str) -> None:
    print(f"budget: {text}", flush=True)


def _end() -> None:
    """Leave nothing behind once nobody needs it."""
    actor: Any = ray.get_runtime_context().current_actor
    ray.kill(actor, no_restart=True)
