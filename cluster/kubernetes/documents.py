"""What ``up`` applies and ``render`` prints, in the order of applying."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.documents import Document, read_document, read_documents
from cluster.kubernetes import names
from cluster.kubernetes.network import network_policy
from cluster.kubernetes.raycluster import FILES, named, raycluster

if TYPE_CHECKING:
    from cluster.spec import Spec


def documents(spec: Spec) -> list[Document]:
    """The standing cluster: policies first, so that no pod is ever open, the RayCluster last."""
    found = [network_policy(spec), spec_map(spec)]
    if spec.cluster.high_availability == "redis":
        found += redis(spec)
    return [*found, raycluster(spec)]


def spec_map(spec: Spec) -> Document:
    """The ConfigMap with the merged spec; secrets are references in it."""
    document = read_document(FILES / "spec.yaml")
    document["metadata"] = named(spec, names.spec_map(spec), queued=False)
    document["data"]["spec.yaml"] = spec.dump()
    return document


def redis(spec: Spec) -> list[Document]:
    """The Service, StatefulSet and NetworkPolicy of the head's state."""
    service, store, policy = read_documents(FILES / "redis.yaml")
    for document in (service, store, policy):
        document["metadata"] = named(spec, names.redis(spec), queued=False)
    ours = {"slipway/redis": spec.name}
    service["spec"]["selector"] = ours
    store["spec"]["serviceName"] = names.redis(spec)
    store["spec"]["selector"] = {"matchLabels": ours}
    template = store["spec"]["template"]
    template["metadata"] = {"labels": ours}
    secret = template["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]
    secret["name"] = names.redis(spec)
    policy["spec"]["podSelector"] = {"matchLabels": ours}
    head = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    head[names.CLUSTER] = spec.name
    return [service, store, policy]
