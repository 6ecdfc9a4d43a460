"""One run with a cluster of its own, which ends with it: ``--ephemeral``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
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


def rayjob(
    spec: Spec, model: str, run: str, attempt: int = 1, arguments: Sequence[str] = ()
) -> Document:
    """The RayJob of one attempt of a run: the run's id is its label, its name and Ray's own id.

    ``arguments`` follow `python -m`, by default those of a training. Raises SpecError for a model
    that is not there.
    """
    provider = spec.cluster.provider
    assert provider.type == "kubernetes"
    document = read_document(FILES / "rayjob.yaml")
    labels = {names.RUN: run}
    document["metadata"] = named(spec, names.job(run, attempt))
    document["metadata"]["labels"] |= labels
    job = document["spec"]
    job["jobId"] = f"{run}-{attempt}"
    words = arguments or ("jobs.pretrain", SPEC_PATH, model)
    job["entrypoint"] = shlex.join(("python", "-m", *words))
    # The operator may start the cluster anew; restarts within it are Ray Train's.
    job["backoffLimit"] = spec.model(model).train.restarts
    submitter = job["submitterPodTemplate"]
    submitter["metadata"]["labels"] = names.labels(spec) | labels
    submitter["spec"]["containers"][0]["image"] = provider.image
    if provider.priority:
        submitter["spec"]["priorityClassName"] = provider.priority
    job["rayClusterSpec"] = cluster_spec(spec, run_groups(spec, model), labels, autoscale=False)
    _mount_spec(job["rayClusterSpec"], names.run_map(run, attempt))
    if not job["rayClusterSpec"]["workerGroupSpecs"]:
        # Only the head is there to work on.
        job["entrypointNumCpus"] = 0
    job["rayClusterSpec"].pop("gcsFaultToleranceOptions", None)
    return document


def _mount_spec(cluster: Document, name: str) -> None:
    """The run's own spec in place of the standing cluster's."""
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for volume in group["template"]["spec"]["volumes"]:
            if volume["name"] == "spec":
                volume["configMap"]["name"] = name


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
