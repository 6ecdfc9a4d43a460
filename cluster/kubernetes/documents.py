"""What ``up`` applies and ``render`` prints, in the order of applying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.documents import Document, read_document, read_documents
from cluster.kubernetes import names
from cluster.kubernetes.groups import groups, pool_groups
from cluster.kubernetes.network import network_policy, services_policy
from cluster.kubernetes.nodes import notes
from cluster.kubernetes.pods import fill_beside
from cluster.kubernetes.raycluster import FILES, named, raycluster
from cluster.kubernetes.rayjob import rayjob, run_spec
from cluster.kubernetes.rayservice import rayservice

if TYPE_CHECKING:
    from cluster.spec import Spec


def documents(spec: Spec) -> list[Document]:
    """The standing cluster: policies first, so that no pod is ever open, the RayCluster last."""
    found = [network_policy(spec), spec_map(spec)]
    if spec.cluster.high_availability == "redis":
        found += redis(spec)
    return [*found, raycluster(spec)]


def service_documents(spec: Spec, applications: Sequence[Document]) -> list[Document]:
    """What ``serve`` applies beside them: the RayService, and who may reach it."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    found = [network_policy(spec)]
    if provider.ingress_namespace:
        found.append(services_policy(spec))
    found.append(spec_map(spec))
    if spec.cluster.high_availability == "redis":
        found += redis(spec)
    return [*found, rayservice(spec, applications)]


def warnings(spec: Spec) -> list[str]:
    """What a person should know of the rendered documents before they are applied."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    found = [line for group in groups(spec) for line in notes(group, provider.platform)]
    for pool in spec.cluster.pools:
        kinds = pool_groups(pool)
        if len(kinds) > 1:
            found.append(
                f"of pool {pool.name} each of {', '.join(kind.name for kind in kinds)} may grow to "
                f"{pool.nodes.max} nodes, for KubeRay bounds its groups one by one"
            )
    if provider.queue and spec.cluster.pools:
        nodes = sum(pool.nodes.max for pool in spec.cluster.pools)
        found.append(
            f"queue {provider.queue} admits the whole cluster at once: {nodes} nodes are held "
            "until slipway down; runs with --ephemeral give theirs back when they end"
        )
    serves = any(model.serve for model in spec.models.values())
    if serves and provider.gateway_class is None:
        found.append(
            "a new image or other nodes move the services to a second cluster all at once; "
            "with cluster.provider.gateway_class traffic moves step by step"
        )
    if serves and provider.ingress_namespace is None:
        found.append(
            "nothing outside the cluster's pods reaches the services; name the namespace of the "
            "Ingress controller in cluster.provider.ingress_namespace, or use kubectl port-forward"
        )
    return found


def run_documents(
    spec: Spec,
    model: str,
    run: str,
    attempt: int = 1,
    arguments: Sequence[str] = (),
    workers: int | None = None,
) -> list[Document]:
    """One attempt of a run with a cluster of its own, and what it needs before it."""
    workers = workers or spec.model(model).train.workers.max
    configuration = spec_map(run_spec(spec, model, workers), names.run_map(run, attempt))
    configuration["metadata"]["labels"][names.RUN] = run
    job = rayjob(spec, model, run, attempt, arguments, workers)
    return [network_policy(spec), configuration, job]


def spec_map(spec: Spec, name: str | None = None) -> Document:
    """The ConfigMap with the merged spec; secrets are references in it."""
    document = read_document(FILES / "spec.yaml")
    document["metadata"] = named(spec, name or names.spec_map(spec), queued=False)
    document["data"]["spec.yaml"] = spec.dump()
    return document


def redis(spec: Spec) -> list[Document]:
    """The Service, StatefulSet and NetworkPolicy of the head's state."""
    service, store, policy = read_documents(FILES / "redis.yaml")
    for document in (service, store, policy):
        document["metadata"] = named(spec, names.redis(spec), queued=False)
    ours = {names.STATE: spec.name}
    service["spec"]["selector"] = ours
    store["spec"]["serviceName"] = names.redis(spec)
    store["spec"]["selector"] = {"matchLabels": ours}
    template = store["spec"]["template"]
    template["metadata"] = {"labels": ours}
    secret = template["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]
    secret["name"] = names.redis(spec)
    store["spec"]["template"] = fill_beside(template, spec)
    policy["spec"]["podSelector"] = {"matchLabels": ours}
    head = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    head[names.CLUSTER] = spec.name
    return [service, store, policy]
