"""The HTTP services of all models with a serve section, on a cluster that runs do not touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cluster.documents import Document, read_document, write_documents
from cluster.kubernetes import names
from cluster.kubernetes.environment import TOKENS, tokens_volume
from cluster.kubernetes.groups import Group, groups
from cluster.kubernetes.pods import mount
from cluster.kubernetes.raycluster import FILES, cluster_spec, named
from cluster.kubernetes.rayjob import SPEC_PATH

if TYPE_CHECKING:
    from cluster.spec import Spec

BUILDER = "serve.app:build"
Versions = Mapping[str, Mapping[str, int]]
"""Model to alias to the version that it names now."""


def rayservice(spec: Spec, versions: Versions) -> Document:
    """The RayService. Versions stand in serveConfigV2 only, so that a moved alias is an update in
    place: Ray Serve replaces replicas one by one, and KubeRay starts no second cluster.
    """
    document = read_document(FILES / "rayservice.yaml")
    document["metadata"] |= named(spec, names.services(spec))
    service = document["spec"]
    service["serveConfigV2"] = write_documents([serve_config(spec, versions)])
    service["upgradeStrategy"] = _upgrade(spec)
    extra = {names.ROLE: names.SERVICES}
    service["rayClusterConfig"] = cluster_spec(spec, serving_groups(spec), extra)
    _open(service["rayClusterConfig"], spec)
    return document


def serve_config(spec: Spec, versions: Versions) -> Document:
    """Ray Serve's configuration: an application per model, and one for /v1, the page and probes."""
    served = [name for name, model in spec.models.items() if model.serve is not None]
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": spec.services.port},
        "applications": [
            *(
                _application(name, f"/models/{name}", {"model": name} | _pinned(versions, name))
                for name in served
            ),
            _application("front", "/", {"models": served}),
        ],
    }


def serving_groups(spec: Spec) -> list[Group]:
    """The groups of the pools that replicas may run in."""
    serves = [model.serve for model in spec.models.values() if model.serve is not None]
    wanted = {serve.pool for serve in serves}
    return [group for group in groups(spec) if None in wanted or group.pool in wanted]


def _application(name: str, route: str, arguments: Mapping[str, Any]) -> Document:
    return {
        "name": name,
        "route_prefix": route,
        "import_path": BUILDER,
        "args": {"spec": SPEC_PATH} | dict(arguments),
    }


def _pinned(versions: Versions, model: str) -> Document:
    return {"versions": dict(versions.get(model, {}))}


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
    """The port of the services and the clients' tokens on every pod."""
    port = {"name": "serve", "containerPort": spec.services.port}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        pod["containers"][0]["ports"].append(port)
        mount(pod, tokens_volume(spec), TOKENS)
    for group in cluster["workerGroupSpecs"]:
        # KubeRay's own probe also asks Serve's proxy, so that no request goes to a pod without it.
        del group["template"]["spec"]["containers"][0]["readinessProbe"]
