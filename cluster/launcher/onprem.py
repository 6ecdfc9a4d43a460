"""The launcher's document for hosts of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.documents import Document, read_document
from cluster.launcher import startup
from cluster.launcher.installation import FOLDER, setup_commands
from cluster.launcher.machines import POOL

if TYPE_CHECKING:
    from cluster.spec import Pool, Spec

ARGUMENTS = f"{FOLDER}/arguments"


def onprem_document(spec: Spec) -> Document:
    """What ``ray up`` is given: the head, and its workers in the order of the file.

    The launcher knows one type of host only, so each host finds out for itself, by its name or
    address, which pool it belongs to.
    """
    provider = spec.cluster.provider
    assert provider.type == "onprem"
    document = read_document(Path(__file__).with_name("onprem.yaml"))
    document["cluster_name"] = spec.name
    document["idle_timeout_minutes"] = spec.cluster.idle_timeout / 60
    addresses = [host.address for host in provider.hosts]
    document["provider"] |= {"head_ip": provider.head, "worker_ips": addresses}
    document["auth"] = _auth(spec)
    pools = spec.cluster.pools
    most = sum(pool.nodes.max for pool in pools) if pools else len(addresses)
    # more hosts than that stand by
    document["max_workers"] = min(most, len(addresses))
    document["min_workers"] = min(sum(pool.nodes.min for pool in pools), len(addresses))
    install = [] if provider.python else setup_commands()
    document["setup_commands"] = [
        *install,
        startup.environment_command(spec),
        _arguments_command(spec),
    ]
    document["file_mounts"] = startup.file_mounts(spec)
    head = " --num-cpus=0" if provider.hosts else ""
    document["head_start_ray_commands"] = startup.head_commands(spec, head)
    document["worker_start_ray_commands"] = startup.worker_commands(f" $(cat {ARGUMENTS})")
    return document


def _auth(spec: Spec) -> Document:
    provider = spec.cluster.provider
    assert provider.type == "onprem"
    auth = {"ssh_user": provider.user} if provider.user else {}
    if provider.key:
        auth["ssh_private_key"] = provider.key
    if provider.port != 22:  # the launcher itself knows no other
        auth["ssh_proxy_command"] = f"nc %h {provider.port}"
    return auth


def _arguments_command(spec: Spec) -> str:
    """Write the arguments of this host's ``ray start``: its pool, and what that says of hosts."""
    provider = spec.cluster.provider
    assert provider.type == "onprem"
    cases = []
    for host in provider.hosts:
        pool = spec.cluster.pool(host.pool) if host.pool else next(iter(spec.cluster.pools), None)
        if pool is not None:
            pattern = shlex.quote(f" {host.address} ")
            cases.append(f"*{pattern}*) echo {shlex.quote(_arguments(pool))} ;;")
    known = '" $(hostname) $(hostname -f 2>/dev/null) $(hostname -I) "'
    return f"mkdir -p {FOLDER} && case {known} in {' '.join(cases)} *) echo ;; esac > {ARGUMENTS}"


def _arguments(pool: Pool) -> str:
    found = [f"--labels={POOL}={pool.name}"]
    if pool.cpus:
        found.append(f"--num-cpus={pool.cpus}")
    if pool.accelerators:
        found.append(f"--num-gpus={pool.accelerators[0].count}")
    if pool.memory:
        # the rest is the object store's and the system's
        found.append(f"--memory={pool.memory * 7 // 10}")
    return " ".join(found)
