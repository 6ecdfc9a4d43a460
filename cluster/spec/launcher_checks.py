"""What Ray's launcher cannot make of a spec, in a cloud or on hosts of one's own."""

import re
from collections.abc import Iterator

from cluster.spec.clusters import ClusterSpec
from cluster.spec.document import Spec
from cluster.spec.providers import AWS, GCP, Azure, OnPrem
from cluster.spec.translate import Finding


def check_launched(spec: Spec, provider: AWS | GCP | Azure | OnPrem) -> Iterator[Finding]:
    """Everything wrong with the provider and the pools on it."""
    cluster = spec.cluster
    yield from _types(cluster, provider)
    yield from _exports(cluster)
    if cluster.high_availability == "redis":
        message = f"redis is for kubernetes; provider {provider.type} keeps it by embedded"
        yield message, ("cluster", "high_availability")
    if isinstance(provider, GCP) and not provider.project:
        message = "needs project: the id of the project that the machines are of"
        yield message, ("cluster", "provider")
    if isinstance(provider, OnPrem):
        yield from _hosts(provider)
    else:
        yield from _region(provider) or _zones(provider)
        yield from _head(cluster, provider)


def _types(cluster: ClusterSpec, provider: AWS | GCP | Azure | OnPrem) -> Iterator[Finding]:
    """Alternatives are types of nodes of their own, whose names may meet those of other pools."""
    from cluster.launcher.machines import HEAD, type_names

    owners: dict[str, str] = {}
    for at, pool in enumerate(cluster.pools):
        path = ("cluster", "pools", at, "name")
        if pool.name == HEAD:
            yield f'"{HEAD}" is the name of Ray\'s own type of nodes; choose another', path
        names = [pool.name] if isinstance(provider, OnPrem) else type_names(pool)
        if len(set(names)) < len(names):
            yield "names an accelerator twice", ("cluster", "pools", at, "accelerators")
        for name in names:
            if owners.setdefault(name, pool.name) != pool.name:
                yield f'"{name}" is what nodes of pool {owners[name]} are called; rename one', path


def _hosts(provider: OnPrem) -> Iterator[Finding]:
    """Each start of a node ends what runs of the cluster on its host: one node a host."""
    seen = {provider.head: "is the head, which holds no workers; leave it out of hosts"}
    for at, host in enumerate(provider.hosts):
        if host.address in seen:
            yield f'"{host.address}" {seen[host.address]}', ("cluster", "provider", "hosts", at)
        seen.setdefault(host.address, "is listed twice; a host holds one node")


def _exports(cluster: ClusterSpec) -> Iterator[Finding]:
    for name in cluster.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            message = "is not a name that a shell can export: letters, digits and underscores"
            yield message, ("cluster", "env", name)


def _region(provider: AWS | GCP | Azure) -> list[Finding]:
    pattern, example = {
        "aws": (r"[a-z]{2,}(-[a-z]+)+-[0-9]+", "eu-west-1"),
        "gcp": (r"[a-z]+-[a-z]+[0-9]+", "europe-west4"),
        "azure": (r"[a-z][a-z0-9]*", "westeurope"),
    }[provider.type]
    if re.fullmatch(pattern, provider.region):
        return []
    message = f'"{provider.region}" is no region of {provider.type}; write one like {example}'
    return [(message, ("cluster", "provider", "region"))]


def _zones(provider: AWS | GCP | Azure) -> Iterator[Finding]:
    pattern, example = {
        "aws": (rf"{re.escape(provider.region)}[a-z]", f"{provider.region}a"),
        "gcp": (rf"{re.escape(provider.region)}-[a-z]", f"{provider.region}-a"),
        "azure": (r"[1-3]", "1, 2 or 3"),
    }[provider.type]
    if isinstance(provider, GCP) and len(provider.zones) > 1:
        message = "Ray's launcher uses one zone on gcp; name the one that has the machines"
        yield message, ("cluster", "provider", "zones")
    for at, zone in enumerate(provider.zones):
        if not re.fullmatch(pattern, zone):
            message = f'"{zone}" is no zone of {provider.region}; write one like {example}'
            yield message, ("cluster", "provider", "zones", at)


def _head(cluster: ClusterSpec, provider: AWS | GCP | Azure) -> Iterator[Finding]:
    from cluster.machines import machine_of

    wanted: list[tuple[tuple[str | int, ...], int | None, int | None]] = [
        (("cluster", "head"), cluster.head.cpus, cluster.head.memory)
    ]
    wanted += [
        (("cluster", "pools", at), pool.cpus, pool.memory)
        for at, pool in enumerate(cluster.pools)
        if not pool.accelerators and not pool.instance
    ]
    for at, pool in enumerate(cluster.pools):
        if pool.instance and not pool.cpus and not isinstance(provider, AWS):
            message = f"instance: needs cpus:, which Ray cannot find out on {provider.type}"
            yield message, ("cluster", "pools", at)
    for path, cpus, memory in wanted:
        try:
            machine_of(provider.type, cpus or 1, memory or 0)
        except ValueError as error:
            yield str(error), path
