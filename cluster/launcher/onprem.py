"""The launcher's document for hosts of one's own."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.documents import Document, read_document
from cluster.launcher import startup
from cluster.launcher.installation import setup_commands
from cluster.launcher.machines import HEAD
from cluster.spec.clusters import POOL

if TYPE_CHECKING:
    from cluster.spec import Pool, Spec
    from cluster.spec.providers import OnPrem

FILES = Path(__file__).parent
PROVIDER = FILES / "remote" / "slipway_hosts.py"
"""What `up` puts beside the cluster's token, to be sent with it."""
ALL = "hosts"
"""The type of all hosts, where the spec has no pools."""


def onprem_document(spec: Spec) -> Document:
    """What ``ray up`` is given: the head, and a type of nodes for each pool of hosts."""
    provider = spec.cluster.provider
    assert provider.type == "onprem"
    document = read_document(FILES / "onprem.yaml")
    document["cluster_name"] = spec.name
    document["idle_timeout_minutes"] = spec.cluster.idle_timeout / 60
    pools = hosts_of_pools(spec, provider)
    document["provider"] |= {"head_ip": provider.head, "pools": pools}
    document["auth"] = _auth(provider)
    types = document["available_node_types"]
    types[HEAD]["resources"] = _head(spec, provider)
    for name, hosts in pools.items():
        types[name] = _node_type(name, spec.cluster.pool(name), len(hosts))
    document["max_workers"] = sum(types[name]["max_workers"] for name in pools)
    install = [] if startup.given_python(spec) else setup_commands()
    document["setup_commands"] = [*install, startup.environment_command(spec)]
    document["file_mounts"] = startup.file_mounts(spec)
    document["file_mounts"] |= startup.library_mount(spec, PROVIDER.name)
    document["head_start_ray_commands"] = startup.head_commands(spec)
    document["worker_start_ray_commands"] = startup.worker_commands(spec)
    return document


def hosts_of_pools(spec: Spec, provider: OnPrem) -> dict[str, list[str]]:
    """The hosts of each pool, in the order of the file; more than it needs stand by."""
    default = next((pool.name for pool in spec.cluster.pools), ALL)
    found: dict[str, list[str]] = {pool.name: [] for pool in spec.cluster.pools}
    for host in provider.hosts:
        found.setdefault(host.pool or default, []).append(host.address)
    return {name: hosts for name, hosts in found.items() if hosts}


def least_hosts(spec: Spec, provider: OnPrem) -> int:
    """How many hosts are to join at once."""
    pools = hosts_of_pools(spec, provider)
    return sum(
        _node_type(name, spec.cluster.pool(name), len(hosts))["min_workers"]
        for name, hosts in pools.items()
    )


def _node_type(name: str, pool: Pool | None, num_hosts: int) -> Document:
    least, most = (pool.nodes.min, pool.nodes.max) if pool else (num_hosts, num_hosts)
    return {
        "resources": _resources(pool) if pool else {},
        "labels": {POOL: name} if pool else {},
        "node_config": {"pool": name},
        "min_workers": min(least, num_hosts),
        "max_workers": min(most, num_hosts),
    }


def _head(spec: Spec, provider: OnPrem) -> dict[str, int]:
    """Nothing runs on the head but Ray's own, where there are hosts to work on."""
    wanted = spec.cluster.head
    found = {"CPU": 0} if provider.hosts else {"CPU": wanted.cpus} if wanted.cpus else {}
    return found | (_memory(wanted.memory) if wanted.memory else {})


def _resources(pool: Pool) -> dict[str, int]:
    """What Ray is told of a host; what is left out it finds by itself."""
    found = {"CPU": pool.cpus} if pool.cpus else {}
    if pool.accelerators:
        found["GPU"] = pool.accelerators[0].count
    return found | (_memory(pool.memory) if pool.memory else {})


def _memory(memory_bytes: int) -> dict[str, int]:
    """For processes, and for the object store; the rest is the system's."""
    return {"memory": memory_bytes * 7 // 10, "object_store_memory": memory_bytes * 2 // 10}


def _auth(provider: OnPrem) -> Document:
    auth = {"ssh_user": provider.user or getpass.getuser()}
    if provider.key:
        auth["ssh_private_key"] = provider.key
    if provider.port != 22:  # the launcher itself knows no other
        auth["ssh_proxy_command"] = f"nc %h {provider.port}"
    return auth
