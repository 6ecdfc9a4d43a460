"""One run with a cluster of its own, which ends with it: ``--ephemeral``."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.documents import Document, read_document
from cluster.kubernetes import names
from cluster.kubernetes.groups import Group, pool_groups
from cluster.kubernetes.pods import fill_beside
from cluster.kubernetes.raycluster import FILES, cluster_spec, named
from cluster.plan import filled, workers_per_node

if TYPE_CHECKING:
    from cluster.spec import ModelSpec, Pool, Spec

SPEC_PATH = "/etc/slipway/spec/spec.yaml"
DRIVERS = {"driver": 1}
"""What the nodes of pools have and the head has not: it draws the driver there."""


def rayjob(
    spec: Spec,
    model: str,
    run: str,
    attempt: int = 1,
    arguments: Sequence[str] = (),
    workers: int | None = None,
) -> Document:
    """The RayJob of one attempt of a run: the run's id is its label, its name and Ray's own id.

    ``arguments`` follow `python -m`, by default those of a training, whose ``workers`` are the
    default, too. Raises SpecError for a model that is not there.
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
    job["entrypoint"] = shlex.join(("python", "-m", *words, "--apart"))
    # The operator starts the cluster anew for a driver that was lost: of all other ends it hears
    # that they are good (--apart). Restarts within a cluster are Ray Train's.
    job["backoffLimit"] = spec.model(model).train.restarts
    submitter = job["submitterPodTemplate"]
    submitter["metadata"]["labels"] = names.labels(spec) | labels
    submitter["spec"]["containers"][0]["image"] = provider.image
    if provider.priority:
        submitter["spec"]["priorityClassName"] = provider.priority
    job["submitterPodTemplate"] = fill_beside(submitter, spec)
    found = run_groups(spec, model, workers or spec.model(model).train.workers.max)
    job["rayClusterSpec"] = cluster_spec(spec, found, labels, autoscale=False)
    _mount_spec(job["rayClusterSpec"], names.run_map(run, attempt))
    for group in job["rayClusterSpec"]["workerGroupSpecs"]:
        # quoted once more: KubeRay puts it into a shell's command
        group["rayStartParams"]["resources"] = json.dumps(json.dumps(DRIVERS))
    if not found:
        del job["entrypointResources"]  # only the head is there to work on
    job["rayClusterSpec"].pop("gcsFaultToleranceOptions", None)
    return document


def _mount_spec(cluster: Document, name: str) -> None:
    """The run's own spec in place of the standing cluster's."""
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for volume in group["template"]["spec"]["volumes"]:
            if volume["name"] == "spec":
                volume["configMap"]["name"] = name


def run_groups(spec: Spec, model: str, workers: int) -> list[Group]:
    """The groups that so many workers of a model fill, as large as they need and no larger."""
    return [
        replace(pool_groups(pool)[0], least=nodes, most=nodes)
        for pool, nodes in filled(spec, spec.model(model), workers)
    ]


def run_spec(spec: Spec, model: str, workers: int) -> Spec:
    """The spec that the run reads: on CPUs its workers share those of its own nodes.

    Left open, they would be given as many as all the pools of the file could hold.
    """
    own = spec.model(model)
    found = filled(spec, own, workers)
    if own.train.cpus_per_worker != "auto" or not found or found[0][0].accelerators:
        return spec
    train = own.train.model_copy(update={"cpus_per_worker": float(_share(found, own, workers))})
    changed = own.model_copy(update={"train": train})
    return spec.model_copy(update={"models": spec.models | {model: changed}})


def _share(found: list[tuple[Pool, int]], model: ModelSpec, workers: int) -> int:
    """CPUs of each worker, as many as let all of them find room on these nodes."""
    left, shares = workers, []
    for pool, nodes in found:
        here = min(left, nodes * workers_per_node(pool, model))
        shares.append((pool.cpus or 1) // math.ceil(here / nodes))
        left -= here
    return min(shares)
