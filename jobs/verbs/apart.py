"""A stage on a cluster of its own, which Kubernetes makes for it and ends with it: ``--ephemeral``.

What it prints is read from the storage, where its driver writes it: no way there is needed.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from cluster.kubernetes import apart
from cluster.kubernetes.client import Kube, connect
from cluster.kubernetes.rayjob import SPEC_PATH
from cluster.parts import read_joined
from cluster.request import DONE, INTERRUPTED, REFUSED, WRONG, Request, WrongRequestError
from cluster.staging import SPEC_FILE
from jobs.spending import check_budget
from jobs.submissions import last_end, record, submissions
from jobs.verbs.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.kubernetes.reasons import Reason
    from cluster.spec import Spec
    from jobs.forecast import Needs
    from jobs.runs import Run

LOOK_EVERY_S = 2.0
CLUSTER = "RayJob/"
"""In place of a cluster's id in the record of a submission, with the RayJob's name."""


def check_ephemeral(spec: Spec) -> None:
    """Refuse where no cluster can be made for one run."""
    kind = spec.cluster.provider.type
    if kind != "kubernetes":
        raise WrongRequestError(
            f"provider {kind} has no runs with a cluster of their own; kubernetes has. Leave "
            "--ephemeral away: nodes of a standing cluster come and go with `nodes: 0..N`"
        )


def work_apart(
    request: Request, spec: Spec, run: Run, arguments: list[str], takes: Callable[[], Needs]
) -> int:
    """Start or join the run's RayJob and follow it to its end; returns the exit code.

    A new one is asked about, with what it ``takes``. Raises OverBudgetError where nothing is left.
    """
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    kube = connect(provider)
    there = apart.under_way(kube, run.id)
    if there is not None:
        name = there.name
        request.say(f"{name} is under way; attached to it (Ctrl-C detaches)")
    else:
        check_budget(spec, run.storage)
        needs = takes()
        if not request.yes:
            request.confirm(f"Start {run.id} {needs.text}?")
        name = _start(spec, kube, run, arguments, needs.workers)
        request.say(f"started {name} (Ctrl-C detaches, it goes on)")
    if request.detach:
        request.say(f"slipway logs -f {run.id} shows how it goes on")
        return 0
    try:
        state = _follow(request, kube, run, name)
    except KeyboardInterrupt:
        request.say(f"\ndetached; {run.id} goes on. slipway stop {run.id} ends it")
        sys.exit(INTERRUPTED)
    end = last_end(run)
    if end is None and not (state.succeeded and run.result()):
        raise ValueError(f"{run.id} failed: {_cause(spec, state)}; {_way_on(run)}")
    apart.end(kube, run.id)  # all that it told is in the storage
    if end is not None and end.exit_code not in (DONE, REFUSED):
        kind = WrongRequestError if end.exit_code == WRONG else ValueError
        raise kind(f"{run.id} failed: {end.reason}; {_way_on(run)}")
    return end.exit_code if end is not None else DONE


def _cause(spec: Spec, state: apart.ApartState) -> str:
    """Why a run ended whose driver kept nothing of it."""
    if state.succeeded:
        provider = spec.cluster.provider
        assert provider.type == "kubernetes"
        return (
            "its driver ended before it could read the storage; "
            f"kubectl -n {provider.namespace} logs job/{state.name} shows why"
        )
    return state.message or "no cause given"


def _way_on(run: Run) -> str:
    return f"slipway logs {run.id} shows all of its output, and the same command again resumes it"


def under_way_apart(spec: Spec, run: Run) -> apart.ApartState | None:
    """The run's own cluster, where it has one that has not ended."""
    provider = spec.cluster.provider
    if provider.type != "kubernetes":
        return None
    jobs = submissions(run)
    if not jobs or not jobs[-1]["cluster"].startswith(CLUSTER):
        return None
    return apart.under_way(connect(provider), run.id)


def follow_apart(request: Request, spec: Spec, run: Run, name: str) -> None:
    """Show what the run's driver writes until it ends."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    _follow(request, connect(provider), run, name)


def stop_apart(request: Request, spec: Spec, run: Run) -> bool:
    """End the run's own cluster; False where it has none."""
    provider = spec.cluster.provider
    if provider.type != "kubernetes" or under_way_apart(spec, run) is None:
        return False
    apart.end(connect(provider), run.id, request.say)
    return True


def _start(spec: Spec, kube: Kube, run: Run, arguments: list[str], workers: int) -> str:
    """Record a new attempt, then start it: a command that was cut off between starts it again."""
    number = len(submissions(run)) + 1
    while not record(run, f"{run.id}-{number}", f"{CLUSTER}{run.id}"):
        number += 1
    words = [SPEC_PATH if word == SPEC_FILE else word for word in arguments]
    model = str(run.info()["model"])
    return apart.start(spec, kube, model, run.id, number, words, workers)


def _follow(request: Request, kube: Kube, run: Run, name: str) -> apart.ApartState:
    """Show what the driver writes, and why the run waits, until it ends."""
    path = f"{run.path}/logs/{submissions(run)[-1]['submission']}.log"
    told: set[Reason] = set()
    seen = 0
    with Screen(request) as screen:
        while True:
            state = apart.state(kube, name)
            if state is None:
                raise ValueError(f"{name} was ended by somebody; the same command again resumes it")
            text = read_joined(run.storage, path)
            screen.feed(text[seen:])
            seen = len(text)
            if state.is_ended:
                return state
            for reason in () if text else apart.why(kube, run.id):
                if reason not in told:
                    told.add(reason)
                    request.say(f"waiting: {reason}")
            time.sleep(LOOK_EVERY_S)
