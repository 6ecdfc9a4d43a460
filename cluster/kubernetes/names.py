"""What our objects are called, and the labels by which they are found and ended."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.spec import Spec

CLUSTER = "slipway/cluster"
RUN = "slipway/run"
ROLE = "slipway/role"
STORAGE = "slipway/storage"
# What a node of each pool costs: of what is applied, so that a rise is asked about.
PRICES = "slipway/prices"
SERVICES = "services"
# On what holds the head's state: Redis' StatefulSet, pods and volume.
STATE = "slipway/redis"
# Of the operator: the RayJob or RayService that a RayCluster was made for.
OWNER = "ray.io/originated-from-cr-name"
# A queue of Kueue; on RayCluster, RayJob and RayService.
QUEUE = "kueue.x-k8s.io/queue-name"

# KubeRay appends 6 characters for the cluster of a RayJob or RayService, and "-serve-svc".
LONGEST_OWNER = 47


def labels(spec: Spec) -> dict[str, str]:
    """The labels of everything that belongs to a spec's cluster."""
    return {
        "app.kubernetes.io/name": "slipway",
        "app.kubernetes.io/instance": spec.name,
        "app.kubernetes.io/managed-by": "slipway",
        CLUSTER: spec.name,
    }


def token_secret(spec: Spec) -> str:
    """The Secret with Ray's token under the key auth_token; `up` makes it where it is absent."""
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    return provider.token.name if provider.token else f"{spec.name}-ray-token"


def spec_map(spec: Spec) -> str:
    """The ConfigMap that holds the merged spec."""
    return f"{spec.name}-spec"


def run_map(run: str, attempt: int) -> str:
    """The ConfigMap with the spec of one attempt of a run: data and starts are pinned in it."""
    return f"{job(run, attempt)}-spec"


def redis(spec: Spec) -> str:
    """The Service of the head's state, and the Secret with its password."""
    return f"{spec.name}-redis"


def services(spec: Spec) -> str:
    """The RayService."""
    return f"{spec.name}-serve"


def job(run: str, attempt: int) -> str:
    """The RayJob of a run's attempt: the run's id, shortened by a digest where it is too long."""
    name = f"{run}-{attempt}"
    if len(name) <= LONGEST_OWNER:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_OWNER - 9].rstrip('-')}-{digest}"
