"""A stage's job: submitted or attached to, followed to its end, and described."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from cluster import client
from cluster.attach import connect
from cluster.connection import Connection
from cluster.follow import follow as follow_job
from cluster.request import INTERRUPTED, REFUSED, Request
from cluster.spec import Spec
from cluster.storage import StorageError
from jobs.bundles import Version, resolve
from jobs.forecast import Needs
from jobs.report import shown
from jobs.runs import Run, latest_checkpoint, publish_metrics
from jobs.spending import check_budget
from jobs.submissions import submit, under_way
from jobs.verbs.apart import work_apart
from jobs.verbs.screen import Screen
from jobs.verbs.waits import Waits, looking

ENDS = {"FAILED": "failed", "STOPPED": "was stopped", "RUNNING": "lost its cluster"}


def work(
    request: Request,
    spec: Spec,
    stage_run: Run,
    arguments: list[str],
    results: list[dict[str, Any]],
    takes: Callable[[], Needs] = lambda: Needs(1, "on the cluster"),
) -> int:
    """Start or join the run's job and follow it to its end; returns the exit code.

    A new job that may cost money is asked about, with what it ``takes``. Raises OverBudgetError
    where the budget is spent.
    """
    if request.ephemeral:
        code = work_apart(request, spec, stage_run, arguments, takes)
        results.append(describe(stage_run, "running" if request.detach else None))
        if not request.detach:
            show(request, stage_run, metrics=False)
        return code
    connection = connect(spec, request.say)
    job = under_way(connection, stage_run)
    if job is not None:
        request.say(f"{job} is under way; attached to it (Ctrl-C detaches)")
    else:
        check_budget(spec, stage_run.storage)
        if _may_cost(spec) and not request.yes:
            request.confirm(f"Start {stage_run.id} {takes().text}?")
        job = submit(connection, spec, stage_run, arguments)
        request.say(f"submitted {job} (Ctrl-C detaches, the job goes on)")
    if request.detach:
        request.say(f"slipway logs -f {stage_run.id} shows how it goes on")
        results.append(describe(stage_run, "running"))
        return 0
    try:
        state = follow(request, connection, job, spec)
    except KeyboardInterrupt:
        request.say(
            f"\ndetached; {stage_run.id} goes on. slipway logs -f {stage_run.id} re-attaches, "
            f"slipway stop {stage_run.id} ends it"
        )
        sys.exit(INTERRUPTED)
    refused = state.exit_code == REFUSED
    if state.status != "SUCCEEDED" and not refused:
        raise ValueError(f"{stage_run.id} {_end(stage_run, state)}; {_way_on(stage_run)}")
    results.append(describe(stage_run))
    show(request, stage_run, metrics=False)
    return REFUSED if refused else 0


def _may_cost(spec: Spec) -> bool:
    """Whether machines come for a run, or have a price: those of others, and this one, do not."""
    kind = spec.cluster.provider.type
    priced = any(pool.price for pool in spec.cluster.pools)
    return kind not in ("local", "ray") and (kind != "onprem" or priced)


def _end(stage_run: Run, state: client.JobState) -> str:
    """How a run ended that did not succeed; who stopped it said why."""
    said = stage_run.end() or {}
    why = f": {said['reason']}" if state.status == "STOPPED" and "reason" in said else ""
    return ENDS[state.status] + why


def _way_on(stage_run: Run) -> str:
    """What to type after a run that did not succeed."""
    saved = latest_checkpoint(stage_run)
    again = f"; the same command again resumes from step {saved.step}" if saved else ""
    return f"slipway logs {stage_run.id} shows all of its output{again}"


def follow(request: Request, connection: Connection, job: str, spec: Spec) -> client.JobState:
    """Show a job's progress until it ends, and why it waits while it is silent."""
    with (
        Screen(request) as screen,
        Waits(looking(connection, spec), job, screen.tell) as waits,
    ):
        for piece in follow_job(connection, job):
            waits.heard()
            screen.feed(piece)
        state = client.wait(connection, job, timeout_s=10)
        if state.status != "SUCCEEDED" and state.exit_code != REFUSED:
            screen.show_failure(state.message)
    return state


def describe(run: Run, status: str | None = None) -> dict[str, Any]:
    """What ``--json`` prints of a stage."""
    result = run.result() or {}
    if not result:  # under way, or cut off: what the path shows is as old as this line
        with contextlib.suppress(StorageError):
            publish_metrics(run)
    found = {
        "run": run.id,
        "status": status or ("complete" if result else "interrupted"),
        "version": result.get("version"),
        "metrics": result.get("metrics", {}),
        "path": run.storage.url(f"{run.path}/metrics.jsonl"),
    }
    version = _version(run)
    return found | (_judged(run, version) if version is not None else {})


def _judged(run: Run, version: Version) -> dict[str, Any]:
    """What is known of a version beyond its training: evaluation, report, what its gates said."""
    known = version.held_back or {}
    report = known.get("report")
    gates = [run.storage.read_json(e.path) for e in run.storage.list(f"{version.path}/judgements")]
    return {
        "evaluation": {key: known.get(key) for key in ("split", "metrics", "intervals")},
        "report": run.storage.url(report) if report else None,
        "gates": gates,
        "aliases": list(version.aliases),
    }


def _version(run: Run) -> Version | None:
    """The version that a finished training or sweep published; None for other runs."""
    result = run.result() or {}
    if run.info()["stage"] not in ("train", "tune") or "version" not in result:
        return None
    return resolve(run.storage, f"{run.info()['model']}@{result['version']}")


def show(request: Request, run: Run, metrics: bool) -> None:
    """Say where a training's version lies, what to type next, and where its report is."""
    version = _version(run)
    if version is None:
        return
    storage = run.storage
    request.say(f"\n{version.name} is a version: {storage.url(version.path)}")
    known = version.held_back
    if metrics and known is not None:
        request.say(f"  on {known['split']}: {shown(known)}")
    request.say(f"  its run: {storage.url(run.path)}")
    request.say(f'next: slipway predict {version.model} "..."   or: slipway models')
    if known is not None and "report" in known:
        request.say(f"report: {storage.url(known['report'])}")
