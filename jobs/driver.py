"""A job's own process as a driver of Ray: joined to the cluster, and shown its workers' lines."""

from __future__ import annotations

import contextlib
import threading
import time

import ray
from ray._private.worker import global_worker

RENEWED_S = 5.0
"""A head that was started again shows lines after this time."""


def join() -> None:
    """Join the cluster at RAY_ADDRESS. What workers print comes out here, whatever the head does.

    Ray asks for the lines once, and a head that was started again knows nothing of it: a run went
    on and showed nothing until it ended. Asking anew costs one call, and doubles no line.
    """
    ray.init(logging_level="warning")
    threading.Thread(target=_renew, name="lines", daemon=True).start()


def _renew() -> None:
    while ray.is_initialized():
        time.sleep(RENEWED_S)
        with contextlib.suppress(Exception):  # the head is away; or Ray has been ended meanwhile
            global_worker.gcs_log_subscriber.subscribe()
