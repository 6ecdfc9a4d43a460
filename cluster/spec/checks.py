"""Combinations that cannot work, refused before anything starts: the cluster, and all models."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from cluster.spec.clusters import ClusterSpec
from cluster.spec.document import Spec
from cluster.spec.model_checks import MODEL_CHECKS
from cluster.spec.problems import did_you_mean
from cluster.spec.provider_checks import check_provider
from cluster.spec.providers import AWS, GCP, Azure, Kubernetes, OnPrem, RayAddress
from cluster.spec.translate import Finding

OWN_PORTS = {6379, 8076, 8080, 8265, 8404, 9101, 10001, 44217, 44227, 52365}
"""Of Ray's processes and of HAProxy, on machines and pods that are made for them."""
OWN_RANGES = (range(10002, 20000), range(30000, 31001))
"""Of Ray's workers, and of the services' replicas."""


def check(spec: Spec) -> Iterator[Finding]:
    """Everything wrong with the spec that its single values do not show."""
    for each in (_storage, _pools, _hosts):
        yield from ((message, ("cluster", *path)) for message, path in each(spec.cluster))
    yield from _services(spec)
    yield from check_provider(spec)
    for name, model in spec.models.items():
        for checks in MODEL_CHECKS:
            for message, path in checks(spec, name, model):
                yield message, ("models", name, *path)


def _services(spec: Spec) -> Iterator[Finding]:
    """Ports that cannot be had where we say who listens at which."""
    provider, port, path = spec.cluster.provider, spec.services.port, ("services", "port")
    if not isinstance(provider, Kubernetes | OnPrem | AWS | GCP | Azure):
        return
    if port in OWN_PORTS or any(port in each for each in OWN_RANGES):
        yield f"{port} is a port of Ray's own on every node; 8000 is free", path
    elif port < 1024:
        yield f"{port} is for processes of root only; 8000 is free", path


def _storage(cluster: ClusterSpec) -> Iterator[Finding]:
    storage, path = cluster.storage, ("storage",)
    scheme = storage.url.partition("://")[0]
    if not storage.is_local and "@" in urlsplit(storage.url).netloc:
        yield (
            "the address holds keys, which everybody who sees this file reads; "
            "storage: {url: s3://BUCKET/PREFIX, credentials: {secret: NAME}}",
            path,
        )
    elif not storage.is_local and (scheme != "s3" or not urlsplit(storage.url).netloc):
        yield f'"{storage.url}" is neither a folder nor s3://BUCKET/PREFIX', path
    if storage.is_local and (storage.endpoint or storage.region or storage.credentials):
        yield "endpoint, region and credentials are for s3://BUCKET/PREFIX only", path
    elsewhere = _elsewhere(cluster)
    if storage.is_local and elsewhere:
        yield (
            f"a folder of this machine cannot be reached from {elsewhere}; "
            "use s3://BUCKET/PREFIX, with endpoint: for a service of your own",
            path,
        )


def _elsewhere(cluster: ClusterSpec) -> str:
    """Where the workers are, if not on this machine."""
    provider = cluster.provider
    if isinstance(provider, Kubernetes | OnPrem | AWS | GCP | Azure):
        return f"provider {provider.type}"
    if isinstance(provider, RayAddress):
        address = provider.address
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
        if host not in ("localhost", "::1", "auto", "local") and not host.startswith("127."):
            return f"the cluster at {address}"
    return ""


def _pools(cluster: ClusterSpec) -> Iterator[Finding]:
    seen: set[str] = set()
    sized = isinstance(cluster.provider, Kubernetes | AWS | GCP | Azure)
    for at, pool in enumerate(cluster.pools):
        if pool.name in seen:
            yield f'a second pool named "{pool.name}"', ("pools", at, "name")
        seen.add(pool.name)
        if sized and not (pool.cpus or pool.accelerators or pool.instance):
            message = f"provider {cluster.provider.type} needs cpus, accelerators or instance"
            yield message, ("pools", at)
        if pool.price and pool.price.per != "h":
            yield f"{pool.price} is not a price per hour", ("pools", at, "price")


def _hosts(cluster: ClusterSpec) -> Iterator[Finding]:
    if not isinstance(cluster.provider, OnPrem):
        return
    names = [pool.name for pool in cluster.pools]
    hosts = cluster.provider.hosts
    for at, host in enumerate(hosts):
        path = ("provider", "hosts", at, "pool")
        if host.pool and host.pool not in names:
            yield f'no pool "{host.pool}"' + did_you_mean(host.pool, names), path
        elif not host.pool and len(names) > 1:
            yield f"must be one of the pools {', '.join(names)}", path
    for at, pool in enumerate(cluster.pools):
        held = sum(host.pool in (None, pool.name) for host in hosts)
        if held < pool.nodes.min:
            yield f"{pool.nodes.min} nodes, but the pool has {held} hosts", ("pools", at, "nodes")
