"""Runs with a cluster of their own: a RayJob each, applied, looked at, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.documents import Document
from cluster.kubernetes import names
from cluster.kubernetes.applying import Report, check, made_secrets
from cluster.kubernetes.client import Kube
from cluster.kubernetes.documents import run_documents
from cluster.kubernetes.reasons import Reason, reasons

if TYPE_CHECKING:
    from cluster.spec import Spec

KIND = "RayJob"
ENDED = ("Complete", "Failed", "ValidationFailed")


@dataclass(frozen=True)
class ApartState:
    """How a RayJob is doing."""

    name: str
    phase: str
    """KubeRay's jobDeploymentStatus: Initializing, Waiting, Running, Retrying, Complete, ..."""
    succeeded: bool
    message: str
    cluster: str
    """Its RayCluster; empty until there is one."""

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in ENDED


def start(
    spec: Spec,
    kube: Kube,
    model: str,
    run: str,
    attempt: int,
    arguments: Sequence[str],
    workers: int | None = None,
) -> str:
    """Apply one attempt of a run; returns the RayJob's name. Applied twice it starts once."""
    check(spec, kube)
    for secret in made_secrets(spec):
        kube.create(secret)
    for document in run_documents(spec, model, run, attempt, arguments, workers):
        kube.apply(document)
    return names.job(run, attempt)


def state(kube: Kube, name: str) -> ApartState | None:
    """How the RayJob is doing; None where there is none."""
    found = kube.get(KIND, name)
    return None if found is None else read_state(found)


def under_way(kube: Kube, run: str) -> ApartState | None:
    """The RayJob of the run that has not ended; None where there is none."""
    found = [read_state(each) for each in kube.find(KIND, f"{names.RUN}={run}")]
    return next((each for each in found if not each.is_ended), None)


def read_state(document: Document) -> ApartState:
    """What the operator wrote of a RayJob."""
    status = document.get("status") or {}
    return ApartState(
        name=document["metadata"]["name"],
        phase=status.get("jobDeploymentStatus") or "Initializing",
        succeeded=status.get("jobStatus") == "SUCCEEDED",
        message=status.get("message") or status.get("reason") or "",
        cluster=status.get("rayClusterName") or "",
    )


def why(kube: Kube, run: str) -> list[Reason]:
    """Why the run's pods wait."""
    pods = kube.find("Pod", f"{names.RUN}={run}")
    clusters = kube.find("RayCluster", f"{names.RUN}={run}")
    return reasons(pods, kube.find("Event"), clusters[-1:])


def end(kube: Kube, run: str, report: Report = lambda line: None) -> list[str]:
    """End the run's RayJobs with their clusters, and their specs; returns KIND/NAME of each."""
    ended = []
    for kind in (KIND, "ConfigMap"):
        for each in kube.find(kind, f"{names.RUN}={run}"):
            name = each["metadata"]["name"]
            if kube.delete(kind, name):
                ended.append(f"{kind}/{name}")
                report(f"ended {kind}/{name}")
    return ended
