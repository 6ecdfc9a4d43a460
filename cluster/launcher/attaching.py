"""Reach a cluster that Ray's launcher made: through its head's ssh."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cluster.connection import ClusterError, Connection
from cluster.launcher import ssh
from cluster.launcher.home import LaunchHome, LaunchRecord, place_of
from cluster.launcher.hosts import look_at
from cluster.launcher.sites import site_of
from cluster.launcher.startup import TOKEN
from cluster.launcher.tunnel import Tunnel
from cluster.versions import check_versions

if TYPE_CHECKING:
    from cluster.spec import Spec


def find(spec: Spec) -> Connection | None:
    """The spec's cluster; None where none was begun here, or is on the spec's own head.

    Raises:
        UnreachableError: ssh gives no connection, or Ray does not answer behind it.
        ClusterError: it was begun and not finished, or runs other versions than this process.
    """
    home = LaunchHome(spec)
    record = home.launched() or adopt(spec, home)
    if record is None:
        return None
    check_same(spec, record)
    if not record.complete:
        raise ClusterError(
            f"{spec.name} was begun and not finished: slipway up finishes it, slipway down ends it"
        )
    connection = connection_to(spec, home, record)
    check_versions(connection)
    return connection


def connection_to(spec: Spec, home: LaunchHome, record: LaunchRecord) -> Connection:
    """The way to a head, opened."""
    tunnel = Tunnel(home, site_of(spec, home).login(), record.head)
    return Connection(
        id=spec.name,
        address="",
        api_url=tunnel.open(),
        token_path=home.token,
        renew=tunnel.renew,
    )


def adopt(spec: Spec, home: LaunchHome) -> LaunchRecord | None:
    """The cluster on the spec's own head that another machine began: its token comes by ssh."""
    provider = spec.cluster.provider
    if provider.type != "onprem":
        return None
    home.create()
    login = site_of(spec, home).login()
    found, _ = look_at(login, [provider.head])
    if not found or spec.name not in found[0].clusters:
        return None
    answer = ssh.run(login, provider.head, f"cat {TOKEN}")
    if answer.code or not answer.output.strip():
        return None
    write_private(home, answer.output.strip())
    storage, place = spec.cluster.storage.url, place_of(spec)
    record = LaunchRecord(provider.type, storage, "", provider.head, True, True, place)
    home.write_launched(record)
    return record


def write_private(home: LaunchHome, token: str) -> None:
    """Keep a token that others made."""
    home.token.unlink(missing_ok=True)
    descriptor = os.open(home.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)


def check_same(spec: Spec, record: LaunchRecord) -> None:
    """Refuse another cluster of the same name, and this one where it stands elsewhere."""
    kind, storage = spec.cluster.provider.type, spec.cluster.storage.url
    if (record.provider, record.storage) != (kind, storage):
        raise ClusterError(
            f"a cluster {spec.name} of provider {record.provider} with its storage at "
            f"{record.storage} was begun on this machine; choose another name:, or end that one "
            "with its own file"
        )
    place = place_of(spec)
    for key in record.place | place if record.place else ():
        was, wanted = record.place.get(key), place.get(key)
        if was != wanted:
            raise ClusterError(
                f"{spec.name} was begun {_at(key, was)}, not {_at(key, wanted)}; slipway down with "
                "the file that says so first"
            )


def _at(key: str, value: str | None) -> str:
    return f"with {key}: {value}" if value else f"without {key}:"
