"""What a provider cannot give: refused from the file alone, before anything is asked of a cloud."""

import re
from collections.abc import Iterator
from typing import Any

from cluster.spec.clusters import Pool
from cluster.spec.document import Spec
from cluster.spec.launcher_checks import check_launched
from cluster.spec.problems import did_you_mean
from cluster.spec.providers import AWS, GCP, Azure, Kubernetes, OnPrem
from cluster.spec.translate import Finding

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
SUBDOMAIN = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
# KubeRay sets these itself, and refuses a cluster that does (validation.go of v1.7).
KUBERAYS = (
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_MODE",
    "RAY_REDIS_ADDRESS",
    "REDIS_PASSWORD",
    "REDIS_USERNAME",
    "RAY_enable_autoscaler_v2",
)
# What is mounted under these names is filled in after pod: was merged.
OWN_VOLUMES = ("spec", "secrets")
# Kueue puts a head and its worker groups into one workload, of 8 parts at most.
MOST_GROUPS = 7


def check_provider(spec: Spec) -> Iterator[Finding]:
    """Everything wrong with the provider, the pools on it, and what it makes of names."""
    cluster, provider = spec.cluster, spec.cluster.provider
    if isinstance(provider, Kubernetes):
        for each in (
            _names,
            _groups,
            _kubernetes,
            _spot,
            _queue,
            _pod,
            _environment,
            _secrets,
        ):
            yield from each(spec, provider)
    if isinstance(provider, AWS | GCP | Azure | OnPrem):
        yield from check_launched(spec, provider)
    if isinstance(provider, Kubernetes | AWS | GCP | Azure):
        for at, pool in enumerate(cluster.pools):
            for message in _accelerators(provider.type, pool):
                yield message, ("cluster", "pools", at, "accelerators")


def _names(spec: Spec, provider: Kubernetes) -> Iterator[Finding]:
    if spec.name.endswith("-"):
        yield "must end with a letter or a digit on Kubernetes", ("name",)
    for at, pool in enumerate(spec.cluster.pools):
        path = ("cluster", "pools", at, "name")
        if pool.name.endswith("-"):
            yield "must end with a letter or a digit on Kubernetes", path
        if pool.name in ("head", "headgroup"):
            yield f'"{pool.name}" is the name of Ray\'s own group; choose another', path
    for key, pattern in (
        ("namespace", LABEL),
        ("ingress_namespace", LABEL),
        ("queue", SUBDOMAIN),
        ("priority", SUBDOMAIN),
        ("gateway_class", SUBDOMAIN),
    ):
        value = getattr(provider, key)
        if value is not None and not re.fullmatch(pattern, value):
            message = (
                f'"{value}" is not a name on Kubernetes: lower-case letters, digits and dashes'
            )
            yield message, ("cluster", "provider", key)


def _groups(spec: Spec, provider: Kubernetes) -> Iterator[Finding]:
    """Alternatives are groups of their own, whose names may meet those of other pools."""
    from cluster.kubernetes.groups import pool_groups

    seen: set[str] = set()
    for at, pool in enumerate(spec.cluster.pools):
        names = {group.name for group in pool_groups(pool)}
        for name in sorted(names & seen):
            message = f'"{name}" is the name of another pool\'s group; rename one of the two'
            yield message, ("cluster", "pools", at, "name")
        seen |= names


def _kubernetes(spec: Spec, provider: Kubernetes) -> Iterator[Finding]:
    if not provider.image:
        yield (
            "needs image: one with this package and its dependencies; build and push it: "
            "docker build -f k8s/image/Dockerfile -t REGISTRY/slipway:TAG .",
            ("cluster", "provider"),
        )
    if provider.token and provider.token.key not in (None, "auth_token"):
        message = f"KubeRay reads the key auth_token; write {{secret: {provider.token.name}}}"
        yield message, ("cluster", "provider", "token")
    if spec.cluster.high_availability == "embedded":
        yield (
            "embedded needs KubeRay's alpha gate GCSFaultToleranceEmbeddedStorage, which is off "
            "in 1.7; use redis",
            ("cluster", "high_availability"),
        )


def _spot(spec: Spec, provider: Kubernetes) -> Iterator[Finding]:
    """Without a label to ask for, a pod would run on any node, and not on spot capacity."""
    from cluster.kubernetes.nodes import has_spot
    from cluster.machines import kinds

    for at, pool in enumerate(spec.cluster.pools):
        for each in pool.accelerators if pool.spot and not pool.instance else ():
            if each.name in kinds() and not has_spot(provider.platform, each):
                yield (
                    f"we know no spot nodes of platform {provider.platform} with {each}: it would "
                    "run on others; name the machine by instance:, other accelerators, or "
                    "spot: false",
                    ("cluster", "pools", at, "accelerators"),
                )


def _queue(spec: Spec, provider: Kubernetes) -> Iterator[Finding]:
    if provider.queue is None:
        return
    if len(spec.cluster.pools) > MOST_GROUPS:
        message = f"Kueue admits {MOST_GROUPS} pools at most; without a queue there is no bound"
        yield message, ("cluster", "pools")
    for at, pool in enumerate(spec.cluster.pools):
        if len({each.count for each in pool.accelerators}) > 1:
            yield (
                "with a queue the size is fixed, so that alternatives must have one count",
                ("cluster", "pools", at, "accelerators"),
            )
    if provider.gateway_class:
        yield (
            "an incremental upgrade needs the autoscaler, which a queue switches off; "
            "leave away one of the two",
            ("cluster", "provider", "gateway_class"),
        )


def _pod(spec: Spec, provider: Kubernetes) -> Iterator[Finding]:
    path = ("cluster", "provider", "pod")
    for key in provider.pod:
        if key not in ("metadata", "spec"):
            near = did_you_mean(key, ("metadata", "spec"))
            yield f"unknown key{near}", (*path, key)
    for key in ("metadata", "spec"):
        if not isinstance(provider.pod.get(key, {}), dict):
            yield "must be a map", (*path, key)
            return
    metadata, pod = provider.pod.get("metadata", {}), provider.pod.get("spec", {})
    if not isinstance(metadata.get("labels", {}), dict):
        yield "must be a map; ours cannot be taken away", (*path, "metadata", "labels")
    if pod.get("restartPolicy", "Never") != "Never":
        message = "must be Never: the autoscaler replaces pods that end"
        yield message, (*path, "spec", "restartPolicy")
    if not _are_keyed(pod.get("containers", []), "name"):
        message = "must be a list of containers with a name; Ray's is called ray"
        yield message, (*path, "spec", "containers")
        return
    yield from _volumes(pod, (*path, "spec", "volumes"))
    for at, container in enumerate(pod.get("containers", [])):
        if container["name"] == "ray":
            yield from _container(container, (*path, "spec", "containers", at))


def _volumes(pod: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[Finding]:
    volumes = pod.get("volumes", [])
    if not _are_keyed(volumes, "name"):
        yield "must be a list of volumes with a name; ours cannot be taken away", path
        return
    for at, volume in enumerate(volumes):
        if volume["name"] in OWN_VOLUMES:
            message = f'"{volume["name"]}" is the name of a volume of ours; choose another'
            yield message, (*path, at, "name")


def _container(container: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[Finding]:
    """Lists that ours are merged with or added to, later on."""
    if not isinstance(container.get("image", ""), str):
        yield "must be an image; leave it away, and it is provider.image", (*path, "image")
    for key, by in (("env", "name"), ("volumeMounts", "mountPath"), ("ports", "containerPort")):
        if not _are_keyed(container.get(key, []), by):
            yield f"must be a list of maps with {by}; ours cannot be taken away", (*path, key)


def _are_keyed(value: object, by: str) -> bool:
    """Whether it is a list of maps that all have the key ``by``."""
    return isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(each.get(by), str | int) for each in value
    )


def _environment(spec: Spec, provider: Kubernetes) -> Iterator[Finding]:
    for name in spec.cluster.env:
        path = ("cluster", "env", name)
        if not re.fullmatch(r"[-._a-zA-Z][-._a-zA-Z0-9]*", name):
            yield "is not a name of a variable: letters, digits and underscores", path
        elif name in KUBERAYS:
            yield "is set by KubeRay; leave it away", path


def _secrets(spec: Spec, provider: Kubernetes) -> Iterator[Finding]:
    """A secret that is a file in one place cannot be a folder of keys in another."""
    credentials, notify = spec.cluster.storage.credentials, spec.notify
    if credentials and credentials.key:
        message = f"names the keys access_key and secret_key itself: {{secret: {credentials.name}}}"
        yield message, ("cluster", "storage", "credentials")
    if credentials and notify and notify.webhook == credentials:
        message = f'secret "{credentials.name}" holds the keys of the storage; name another'
        yield message, ("notify", "webhook")


def _accelerators(kind: str, pool: Pool) -> Iterator[str]:
    from cluster.machines import kind_of, machine_with

    for accelerator in pool.accelerators if not pool.instance else ():
        try:
            if kind == "kubernetes":
                kind_of(accelerator)
            else:
                machine_with(kind, accelerator)
        except ValueError as error:
            yield f"{error} (a machine that is not in our table: instance:)"
