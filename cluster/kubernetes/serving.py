"""``serve`` on Kubernetes: the RayService applied, waited for, and ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from cluster.connection import ClusterError
from cluster.documents import Document
from cluster.kubernetes import names
from cluster.kubernetes.applying import check, made_secrets
from cluster.kubernetes.client import Kube
from cluster.kubernetes.documents import service_documents
from cluster.kubernetes.environment import KEY, services_tokens
from cluster.kubernetes.reasons import Reason, reasons
from cluster.services import cause

if TYPE_CHECKING:
    from cluster.spec import Spec

KIND = "RayService"
TIMEOUT_S = 1800.0
LOOK_EVERY_S = 1.0
GONE_S = 60.0
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


def served(spec: Spec, kube: Kube) -> list[str]:
    """Names of the applications that the RayService is told to serve; none where there is none."""
    found = kube.get(KIND, names.services(spec))
    if found is None:
        return []
    config = YAML(typ="safe", pure=True).load(found["spec"]["serveConfigV2"])
    return [application["name"] for application in config["applications"]]


def apply(spec: Spec, kube: Kube, applications: Sequence[Document], tokens: str) -> bool:
    """Make or update the services; returns whether anything changed.

    ``tokens`` is what the clients' Secret gets where it is made: one that is there is left alone.
    """
    check(spec, kube)
    for secret in made_secrets(spec):
        kube.create(secret)
    made = services_tokens(spec)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": made.name, "labels": names.labels(spec)},
        "stringData": {made.key or KEY: tokens},
    }
    kube.create(secret)
    wanted = service_documents(spec, applications)
    before = kube.get(KIND, names.services(spec))
    changed = [kube.apply(document) for document in wanted]
    if before is not None and _is_stuck(before, kube.get(KIND, names.services(spec)) or before):
        kube.delete(KIND, names.services(spec))
        _wait_gone(kube, names.services(spec))
        changed = [kube.apply(document) for document in wanted]
    return any(changed)


def _is_stuck(before: Document, now: Document) -> bool:
    """Whether one that serves nobody would not come up by itself.

    Serve does not try again what failed, and the operator gives a cluster without a head up for no
    other: https://github.com/ray-project/kuberay, rayservice_controller.go of 1.7.
    """
    if is_ready(before):
        return False
    nodes = [each["spec"]["rayClusterConfig"] for each in (before, now)]
    return not _is_read(before) or bool(failures(before)) or nodes[0] != nodes[1]


def wait(spec: Spec, kube: Kube, wanted: Sequence[str], report: Callable[[str], None]) -> None:
    """Wait until all run; a new reason for waiting is reported once.

    Raises ClusterError with the cause where one does not come up.
    """
    deadline = time.monotonic() + TIMEOUT_S
    told: set[str] = set()
    while True:
        service = kube.get(KIND, names.services(spec)) or {}
        states = application_states(service)
        for name, message in failures(service).items():
            raise ClusterError(f"{name} did not come up: {message or 'no cause given'}")
        for name, (state, _) in states.items():
            if state == "RUNNING" and name not in told:
                told.add(name)
                report(f"{name}: up")
        if all(states.get(name, ("",))[0] == "RUNNING" for name in wanted) and is_ready(service):
            return
        found = _why(spec, kube)
        for reason in found:
            if str(reason) not in told:
                told.add(str(reason))
                report(f"waiting: {reason}")
        if time.monotonic() > deadline:
            causes = "\n  ".join(map(str, found)) or "slipway logs; kubectl describe rayservice"
            raise ClusterError(f"not up after {TIMEOUT_S:.0f} s:\n  {causes}")
        time.sleep(LOOK_EVERY_S)


def application_states(service: Document) -> dict[str, tuple[str, str]]:
    """Application -> (status, message), of the cluster that takes the traffic or soon will."""
    status = service.get("status") or {}
    found: dict[str, tuple[str, str]] = {}
    for part in ("activeServiceStatus", "pendingServiceStatus"):
        applications = (status.get(part) or {}).get("applicationStatuses") or {}
        for name, each in applications.items():
            found[name] = (each.get("status") or "", _cause(each))
    return found


def _cause(application: Document) -> str:
    """Why it did not come up: the error that ended a deployment, where one did."""
    for each in (application.get("serveDeploymentStatuses") or {}).values():
        if each.get("status") in FAILED and each.get("message"):
            return cause(each["message"])
    return application.get("message") or ""


def failures(service: Document) -> dict[str, str]:
    """Application -> why it did not come up, in what was asked for last.

    The operator's status is of what was asked for before until it has read the change.
    """
    if not _is_read(service):
        return {}
    states = application_states(service)
    return {name: message for name, (state, message) in states.items() if state in FAILED}


def _is_read(service: Document) -> bool:
    """Whether the operator's status is of what the RayService says now."""
    seen = (service.get("status") or {}).get("observedGeneration") or 0
    return bool(seen >= service["metadata"].get("generation", 0))


def is_ready(service: Document) -> bool:
    """Whether the operator has pointed the Service at it."""
    conditions = (service.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _wait_gone(kube: Kube, name: str) -> None:
    deadline = time.monotonic() + GONE_S
    while kube.get(KIND, name) is not None:
        if time.monotonic() > deadline:
            raise ClusterError(f"the RayService {name} does not end: kubectl describe rayservice")
        time.sleep(LOOK_EVERY_S)


def end(spec: Spec, kube: Kube) -> bool:
    """End the RayService with its cluster; the clients' Secret stays."""
    return kube.delete(KIND, names.services(spec))


def _why(spec: Spec, kube: Kube) -> list[Reason]:
    pods = kube.find("Pod", f"{names.CLUSTER}={spec.name},{names.ROLE}={names.SERVICES}")
    clusters = kube.find("RayCluster", f"{names.OWNER}={names.services(spec)}")
    return reasons(pods, kube.find("Event"), clusters)
