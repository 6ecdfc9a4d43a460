"""What an answer of the Kubernetes API that is not the wanted one means. Pure."""

from __future__ import annotations

import re

INSTALL = (
    "helm install kuberay-operator kuberay/kuberay-operator --version 1.7.0 "
    "--namespace kuberay-system --create-namespace -f k8s/operator/values.yaml"
)


def refusal(status: int, message: str, namespace: str) -> str:
    """What an answer of the API means, and what to do."""
    if status == 401:
        return (
            "the Kubernetes API refuses the credentials of the kubeconfig: they are absent or "
            "have expired; log in again (aws eks update-kubeconfig, gcloud container clusters "
            "get-credentials, az aks get-credentials)"
        )
    right = re.search(r'cannot (\w+) resource "([\w/]+)" in API group "([\w.]*)"', message)
    if status == 403 and right:
        verb, resource, _ = right.groups()
        role, remedy = "slipway-user", "ask the administrator to bind it to you"
        if resource == "secrets" and verb in (
            "get",
            "delete",
        ):  # it names each Secret that may be read
            named = re.search(r'secrets "([^"]+)"', message)
            role, remedy = (
                "slipway-token",
                (
                    f"ask the administrator to add {named[1] if named else 'the Secret'} to its "
                    "resourceNames, and to bind it to you"
                ),
            )
        return (
            f"no right to {verb} {resource} in namespace {namespace}; it is in the Role "
            f"{role} of k8s/base/rbac.yaml: {remedy}"
        )
    if status == 403 and "exceeded quota" in message:
        return f"the quota of namespace {namespace} is used up: {message}"
    if status == 404 and re.search(r'namespaces "[^"]+" not found', message):
        return (
            f"there is no namespace {namespace}; make it with its quota and rights: "
            "kubectl apply -k k8s/overlays/laptop (or one of your own, see k8s/README.md)"
        )
    unknown = re.search(r'unknown field "([^"]+)"', message)
    if unknown:
        return (
            f"the cluster does not know {unknown[1]}: a key of cluster.provider.pod that is "
            f"misspelt, or a KubeRay operator older than 1.7; {INSTALL}"
        )
    return f"the Kubernetes API says {status}: {message}"
