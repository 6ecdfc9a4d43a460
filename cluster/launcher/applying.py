"""``up`` and ``down`` by Ray's cluster launcher: runs it on what was rendered, waits, says why."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cluster import api
from cluster.connection import ClusterError, Connection
from cluster.documents import write_documents
from cluster.launcher import joining, launching
from cluster.launcher.attaching import adopt, check_same, connection_to
from cluster.launcher.bill import bill_of
from cluster.launcher.documents import launcher_document
from cluster.launcher.home import LaunchHome, LaunchRecord, place_of
from cluster.launcher.onprem import PROVIDER
from cluster.launcher.sites import Ended, Report, Site, site_of
from cluster.launcher.startup import AUTHORITY, PROGRAMS, file_mounts
from cluster.launcher.tunnel import Tunnel
from cluster.machines import CLOUDS
from cluster.secrets import read_secret
from cluster.services import token_file, write_tokens
from cluster.versions import check_versions

if TYPE_CHECKING:
    from cluster.spec import Spec


@dataclass(frozen=True)
class Applied:
    """What ``up`` did."""

    connection: Connection
    changed: bool


MayStart = Callable[[Connection | None, LaunchRecord | None], None]


def up(spec: Spec, report: Report, may_start: MayStart) -> Applied:
    """Make or finish the cluster, and wait until its head and its least hosts are there.

    Done twice it changes nothing. ``may_start`` raises where it must not be started, or must not
    be started anew for a changed spec. Raises ClusterError with cause and remedy.
    """
    if spec.services.tokens is None and any(model.serve for model in spec.models.values()):
        write_tokens(token_file(spec), "owner")
    check_secrets(spec)
    home = LaunchHome(spec)
    home.create()
    record = home.launched() or adopt(spec, home)
    if record is not None:
        check_same(spec, record)
    document = write_documents([launcher_document(spec)])
    running = _running(spec, home, record)
    if running is not None and record is not None and _is_of(record, document):
        if not record.joined:  # interrupted while it waited for hosts
            _join(spec, home, record, running, report)
        return Applied(running, changed=not record.joined)
    may_start(running, record)
    record, fresh = _start(spec, home, record, document, report)
    connection = connection_to(spec, home, record)
    joining.await_head(connection)
    _join(spec, home, record, connection, report)
    return Applied(replace(connection, fresh=fresh), changed=fresh)


def _start(
    spec: Spec, home: LaunchHome, before: LaunchRecord | None, document: str, report: Report
) -> tuple[LaunchRecord, bool]:
    """Start the head by a document; False where another command did it while this one waited."""
    site = site_of(spec, home)
    with home.lock(report):
        now = home.launched()
        if now is not None and now.complete and now != before:
            check_same(spec, now)
            if not _is_of(now, document):
                raise ClusterError(
                    f"another command started {spec.name} by another file while this one waited; "
                    "slipway up again"
                )
            return now, False
        site.check(now is None, report)
        record = _launch(spec, home, site, document, report)
        Tunnel(home, site.login(), record.head).close()
    return record, True


def _launch(
    spec: Spec, home: LaunchHome, site: Site, document: str, report: Report
) -> LaunchRecord:
    """Run the launcher; what is cut off in between is known by its record."""
    from cluster.launcher.remote.slipway_certificate import authority  # slow to import

    kind, storage = spec.cluster.provider.type, spec.cluster.storage.url
    bill = bill_of(spec) if kind in CLOUDS else None
    begun = LaunchRecord(
        kind,
        storage,
        _digest(document),
        head="",
        complete=False,
        place=place_of(spec),
        bill=bill,
        started=time.time(),
    )
    home.write_launched(begun)
    site.prepare(report)
    home.write_token()
    for name, content in zip(AUTHORITY, authority(), strict=True):
        home.write(name, content.decode())
    home.write(home.document.name, document)
    for program in (PROVIDER, *PROGRAMS):
        shutil.copy(program, home.folder)
    launching.launch(spec, home, report)
    complete = replace(begun, head=site.head(), complete=True)
    home.write_launched(complete)
    return complete


def _is_of(record: LaunchRecord, document: str) -> bool:
    """Whether it was started by the document, or by a colleague, whose document is not known."""
    return record.document in ("", _digest(document))


def _digest(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()


def _join(
    spec: Spec, home: LaunchHome, record: LaunchRecord, connection: Connection, report: Report
) -> None:
    """Wait for the least hosts, and remember that they came."""
    site = site_of(spec, home)
    look = partial(joining.monitor_output, site.login(), record.head)
    joining.await_hosts(connection, site.least(), report, look)
    home.write_launched(replace(record, joined=True))


def down(spec: Spec, report: Report) -> Ended:
    """End the cluster on every host and forget it, what an interrupted ``up`` made too.

    Storage stays.
    """
    home = LaunchHome(spec)
    record = home.launched()
    if record is not None:
        check_same(spec, record)
    site = site_of(spec, home)
    with home.lock(report):
        ended = site.end(report)
        if record is not None and record.head:
            Tunnel(home, site.login(), record.head).close()
        home.forget()
    return ended


def check_secrets(spec: Spec) -> None:
    """Refuse secrets that are not there before anything is sent: all at once."""
    folder = "~/.slipway/secrets/"
    missing = []
    for place in file_mounts(spec):
        if place.startswith(folder):
            try:
                read_secret(place.removeprefix(folder))
            except ValueError as error:
                missing.append(str(error))
    if missing:
        raise ClusterError("\n".join(missing))


def _running(spec: Spec, home: LaunchHome, record: LaunchRecord | None) -> Connection | None:
    """The cluster, if it is up and answers; None lets ``up`` make it anew."""
    if record is None or not record.complete:
        return None
    connection = connection_to(spec, home, record)
    try:
        check_versions(connection)
    except api.UnreachableError:  # ssh answers, Ray does not: its head has died
        return None
    return connection
