"""One pod template, from the file's and a group of the spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cluster.documents import Document
from cluster.kubernetes import names
from cluster.kubernetes.environment import SECRETS, environment, secret_files
from cluster.kubernetes.groups import Group
from cluster.kubernetes.merging import merge
from cluster.kubernetes.nodes import placement
from cluster.spec.clusters import POOL

if TYPE_CHECKING:
    from cluster.spec import Spec

# What of ``pod:`` says where a pod may run and as whom; the rest of it is for containers of Ray.
ANY_POD = (
    "imagePullSecrets",
    "tolerations",
    "nodeSelector",
    "affinity",
    "serviceAccountName",
    "securityContext",
)
GIB = 2**30
MIB = 2**20


def fill_pod(template: Document, spec: Spec, group: Group, extra: dict[str, str]) -> Document:
    """A pod template with everything that the spec says of it, ``pod:`` last.

    ``extra`` holds labels beside those of the cluster.
    """
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    pod = template["spec"]
    container = pod["containers"][0]
    container["image"] = provider.image
    container["env"] = environment(spec, bool(group.accelerators))
    container["resources"] = resources(group)
    template["metadata"] = {"labels": names.labels(spec) | {POOL: group.pool} | extra}
    if provider.priority:
        pod["priorityClassName"] = provider.priority
    pod |= placement(group, provider.platform)
    _fill_volumes(pod, container, spec, group)
    merged: Document = merge(template, provider.pod)
    return merged


def fill_beside(template: Document, spec: Spec) -> Document:
    """A pod template beside those of Ray, with what of ``pod:`` it needs to be let in, too."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    said = provider.pod.get("spec", {})
    section = {
        "metadata": provider.pod.get("metadata", {}),
        "spec": {key: said[key] for key in ANY_POD if key in said},
    }
    merged: Document = merge(template, section)
    return merged


def resources(group: Group) -> Document:
    """Requests and limits. CPUs have no limit: throttled workers hold up all the others."""
    asked: dict[str, Any] = {"cpu": str(group.cpus), "memory": quantity(group.memory_bytes)}
    limits: dict[str, Any] = {"memory": asked["memory"]}
    if group.accelerators:
        asked[group.resource] = limits[group.resource] = str(group.num_accelerators)
    return {"requests": asked, "limits": limits}


def quantity(size: int) -> str:
    """Bytes as Kubernetes writes them: 8Gi, 512Mi, or a plain number."""
    for unit, name in ((GIB, "Gi"), (MIB, "Mi")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def mount_secrets(pod: Document, sources: Sequence[Document]) -> None:
    """Files of secrets at SECRETS, read only, in the container of Ray; added to those there are."""
    volume = next((each for each in pod["volumes"] if each["name"] == "secrets"), None)
    if volume is None:
        volume = {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": []}}
        pod["volumes"].append(volume)
        pod["containers"][0]["volumeMounts"].append(
            {"name": "secrets", "mountPath": SECRETS, "readOnly": True}
        )
    known = volume["projected"]["sources"]
    known += [source for source in sources if source not in known]


def _fill_volumes(pod: Document, container: Document, spec: Spec, group: Group) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    # Half of the pod's memory: Ray's object store takes three tenths, data loaders the rest.
    size = max(64 * MIB, group.memory_bytes // 2 // MIB * MIB)
    volumes["shared-memory"]["emptyDir"]["sizeLimit"] = quantity(size)
    volumes["spec"]["configMap"]["name"] = names.spec_map(spec)
    sources = secret_files(spec)
    if sources:
        mount_secrets(pod, sources)
