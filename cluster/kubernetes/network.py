"""NetworkPolicies: what of a cluster is reached, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.documents import Document, read_document
from cluster.kubernetes import names
from cluster.kubernetes.raycluster import FILES, named

if TYPE_CHECKING:
    from cluster.spec import Spec


def network_policy(spec: Spec) -> Document:
    """Closes every pod of the spec to all but each other, the operator and Prometheus."""
    document = read_document(FILES / "networkpolicy.yaml")
    document["metadata"] = named(spec, spec.name, queued=False)
    ours = {"matchLabels": {names.CLUSTER: spec.name}}
    document["spec"]["podSelector"] = ours
    rules = document["spec"]["ingress"]
    rules[0]["from"][0]["podSelector"] = ours
    rules[1]["ports"][-1]["port"] = spec.services.port
    return document


def services_policy(spec: Spec) -> Document:
    """Opens the port of the services to the controller of the Ingress; policies add up."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    document = read_document(FILES / "networkpolicy.yaml")
    document["metadata"] = named(spec, names.services(spec), queued=False)
    serving = {names.CLUSTER: spec.name, names.ROLE: names.SERVICES}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": provider.ingress_namespace}}
    document["spec"]["podSelector"] = {"matchLabels": serving}
    document["spec"]["ingress"] = [
        {
            "from": [{"namespaceSelector": selector}],
            "ports": [{"protocol": "TCP", "port": spec.services.port}],
        }
    ]
    return document
