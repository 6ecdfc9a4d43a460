"""The HTTP services of all models with a serve section, on a cluster that runs do not touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.documents import Document, read_document, write_documents
from cluster.kubernetes import names
from cluster.kubernetes.environment import SECRETS, secret_source, services_tokens
from cluster.kubernetes.groups import Group, pool_groups
from cluster.kubernetes.growth import prices
from cluster.kubernetes.pods import mount_secrets
from cluster.kubernetes.raycluster import FILES, cluster_spec, named
from cluster.proxy import pod_environment
from cluster.spec.places import serving_pools

if TYPE_CHECKING:
    from cluster.spec import Spec


def rayservice(spec: Spec, applications: Sequence[Document]) -> Document:
    """The RayService of Ray Serve's applications (``serve.applications`` makes them).

    They stand in serveConfigV2 only: what changes with a version or an alias is an update in place,
    for which Ray Serve replaces replicas one by one and KubeRay starts no second cluster.
    """
    document = read_document(FILES / "rayservice.yaml")
    document["metadata"] |= named(spec, names.services(spec))
    document["metadata"]["annotations"] |= prices(spec, serving_pools(spec.cluster, spec.models))
    service = document["spec"]
    service["serveConfigV2"] = write_documents([serve_config(spec, applications)])
    service["upgradeStrategy"] = _upgrade(spec)
    extra = {names.ROLE: names.SERVICES}
    service["rayClusterConfig"] = cluster_spec(spec, serving_groups(spec), extra)
    _open(service["rayClusterConfig"], spec)
    return document


def serve_config(spec: Spec, applications: Sequence[Document]) -> Document:
    """Ray Serve's configuration: every node takes requests, from the pod's own network."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": spec.services.port},
        "applications": list(applications),
    }


def tokens_file(spec: Spec) -> str:
    """Where replicas find the clients' tokens; the file follows its Secret within a minute."""
    return f"{SECRETS}/{services_tokens(spec)}"


def serving_groups(spec: Spec) -> list[Group]:
    """The groups of the pools that replicas may run in."""
    pools = serving_pools(spec.cluster, spec.models)
    return [group for pool in pools for group in pool_groups(pool)]


def _upgrade(spec: Spec) -> Document:
    """Traffic moved step by step through a Gateway where one is named, else all at once."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    if provider.gateway_class is None:
        return {"type": "NewCluster"}
    return {
        "type": "NewClusterWithIncrementalUpgrade",
        "clusterUpgradeOptions": {
            "gatewayClassName": provider.gateway_class,
            "stepSizePercent": 20,
            "intervalSeconds": 30,
            "maxSurgePercent": 100,
        },
    }


def _open(cluster: Document, spec: Spec) -> None:
    """The port of the services, HAProxy behind it and the clients' tokens on every pod."""
    tokens = secret_source(services_tokens(spec))
    port = {"name": "serve", "containerPort": spec.services.port}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        container = pod["containers"][0]
        container["ports"].append(port)
        known = {each["name"] for each in container["env"]}
        container["env"] += [
            {"name": name, "value": value}
            for name, value in pod_environment().items()
            if name not in known  # cluster.env wins
        ]
        mount_secrets(pod, [tokens])
    for group in cluster["workerGroupSpecs"]:
        # KubeRay's own probe also asks Serve's proxy, so that no request goes to a pod without it.
        group["template"]["spec"]["containers"][0].pop("readinessProbe", None)
