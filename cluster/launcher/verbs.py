"""``up`` and ``down`` where Ray's cluster launcher makes the cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cluster import client
from cluster.connection import ClusterError, Connection
from cluster.launcher import applying
from cluster.launcher.attaching import find
from cluster.launcher.bill import bill_of, shown_bill
from cluster.launcher.home import LaunchHome, LaunchRecord
from cluster.launcher.sites import site_of
from cluster.launcher.tunnel import Tunnel
from cluster.machines import CLOUDS
from cluster.request import Request, WrongRequestError
from cluster.verbs import check_idle

if TYPE_CHECKING:
    from cluster.spec import Spec


def up(request: Request, spec: Spec) -> None:
    """Start the cluster, finish one that was begun, or say that it runs."""

    def may_start(running: Connection | None, record: LaunchRecord | None) -> None:
        if running is not None and not request.yes:
            _check_no_jobs(running, spec)
        if spec.cluster.provider.type in CLOUDS:
            _agree(request, spec, record if running else None)

    applied = applying.up(spec, request.say, may_start)
    connection = applied.connection
    home = LaunchHome(spec)
    record = home.launched()
    head = record.head if record else ""
    way = Tunnel(home, site_of(spec, home).login(), head).shown()
    known = "is up" if applied.changed else "was up already; nothing changed"
    request.answer(
        {
            "cluster": spec.name,
            "head": head,
            "dashboard": connection.api_url,
            "fresh": applied.changed,
        },
        f"{spec.name} {known}\nits dashboard: {connection.api_url}, by ssh; from another machine: "
        f'{way}\nits token: {connection.token_path}; eval "$(slipway env)" sets both for Ray',
    )


def down(request: Request, spec: Spec) -> None:
    """End it everywhere; runs, data and models stay in storage."""
    if not request.yes:
        _check_unused(spec)
    ended = applying.down(spec, request.say)
    for line in ended.unreachable.values():
        print(f"not reached: {line}", file=sys.stderr)
    text = f"{spec.name} was not up; nothing to end"
    if ended.count:
        text = f"{spec.name} is down: {ended.count} {ended.what}"
    if ended.unreachable:
        text += "; Ray on the hosts that were not reached ends by itself within a minute or two"
    request.answer({"ended": ended.count, "unreachable": sorted(ended.unreachable)}, text)


def _check_no_jobs(running: Connection, spec: Spec) -> None:
    """Refuse to start Ray anew under runs, unless told."""
    names = [job.submission_id for job in client.jobs(running) if not job.is_ended]
    if names:
        raise WrongRequestError(
            f"the spec of {spec.name} has changed, and Ray must start anew for it: "
            f"{', '.join(names)} would end; up -y does it (a training resumes from its last "
            "checkpoint when it is asked for again)"
        )


def _agree(request: Request, spec: Spec, applied: LaunchRecord | None) -> None:
    """Ask before it costs money: all of it where none runs, else where it may cost more."""
    if applied is None:
        request.confirm(f"start {spec.name} with {shown_bill(spec)}?")
    elif applied.bill is None or bill_of(spec).is_above(applied.bill):
        was = applied.bill or "what an earlier version did not write down"
        request.confirm(f"let {spec.name} grow from {was} to {shown_bill(spec)}?")


def _check_unused(spec: Spec) -> None:
    """Refuse to end runs that are under way and services in use, unless told.

    What an interrupted ``up`` left has neither.
    """
    home = LaunchHome(spec)
    record = home.launched()
    if record is not None and not record.complete:
        return
    try:
        connection = find(spec)
        cause = "" if connection else site_of(spec, home).strangers()
        if not cause:
            check_idle(connection, spec)
    except ClusterError as error:
        cause = str(error)
    if cause:
        raise WrongRequestError(
            f"whether it is in use cannot be told: {cause}; slipway down -y ends it all the same"
        )
