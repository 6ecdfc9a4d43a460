"""One run with a cluster of its own, which ends with it: ``--ephemeral``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.documents import Document, read_document
from cluster.kubernetes import names
from cluster.kubernetes.groups import Group, groups
from cluster.kubernetes.raycluster import FILES, cluster_spec, named
from cluster.spec import usable_pools

if TYPE_CHECKING:
    from cluster.spec import Spec

SPEC_PATH = "/etc/slipway/spec/spec.yaml"
MODULES = {"train": "jobs.pretrain", "prepare": "jobs.prepare", "evaluate": "jobs.evaluate"}


def rayjob(spec: Spec, model: str, run: str, attempt: int = 1, stage: str = "train") -> Document:
    """The RayJob of one attempt of a run: the run's id is its label, its name and Ray's own id.

    Raises SpecError for a model that is not there.
    """
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    document = read_document(FILES / "rayjob.yaml")
    labels = {names.RUN: run}
    document["metadata"] = named(spec, names.job(run, attempt))
    document["metadata"]["labels"] |= labels
    job = document["spec"]
    job["jobId"] = f"{run}-{attempt}"
    job["entrypoint"] = f"python -m {MODULES[stage]} {SPEC_PATH} {shlex.quote(model)}"
    # The operator may start the cluster anew; restarts within it are Ray Train's.
    job["backoffLimit"] = spec.model(model).train.restarts
    submitter = job["submitterPodTemplate"]
    submitter["metadata"]["labels"] = names.labels(spec) | labels
    submitter["spec"]["containers"][0]["image"] = provider.image
    if provider.priority:
        submitter["spec"]["priorityClassName"] = provider.priority
    job["rayClusterSpec"] = cluster_spec(spec, run_groups(spec, model), labels, autoscale=False)
    if not job["rayClusterSpec"]["workerGroupSpecs"]:
        # Only the head is there to work on.
        job["entrypointNumCpus"] = 0
    job["rayClusterSpec"].pop("gcsFaultToleranceOptions", None)
    return document


def run_groups(spec: Spec, model: str) -> list[Group]:
    """The groups that a model may use, as large as its workers need and no larger.

    Workers fill the pools in the file's order; where CPUs are what counts, all that the pools have.
    """
    train = spec.model(model).train
    pools = {pool.name for pool in usable_pools(spec.cluster, train)}
    found = [group for group in groups(spec) if group.pool in pools]
    accelerated = [group for group in found if group.accelerators]
    if not accelerated:
        return found
    left, taken = train.workers.max, []
    for group in accelerated:
        nodes = min(group.most, -(-left // group.num_accelerators))
        if nodes > 0:
            taken.append(replace(group, least=nodes, most=nodes))
            left -= nodes * group.num_accelerators
    return taken
