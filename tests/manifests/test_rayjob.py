"""A run with a cluster of its own: what is rendered for it, and how large it is."""

from __future__ import annotations

import pytest

from cluster.documents import Document
from cluster.kubernetes.documents import run_documents
from cluster.kubernetes.rayjob import rayjob, run_spec
from cluster.plan import num_nodes
from tests.manifests.rules import broken_rules

MODELS = """models: {tickets: {domain: text, task: generation, data: builtin:python-docs,
  train: {global_batch: 60, TRAIN}}}"""


def sizes(job: Document) -> dict[str, int]:
    """The groups of a RayJob, each with its nodes, which are fixed."""
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for group in groups:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    return {group["groupName"]: group["replicas"] for group in groups}


def test_an_ephemeral_run_takes_what_its_workers_need(spec_of, faults):
    spec = spec_of(
        "pools: [{name: gpu, nodes: 0..4, accelerators: [H100:8, H200:8]}, {name: other, cpus: 4}]",
        rest=MODELS.replace("TRAIN", "workers: 2..16, pool: gpu"),
    )
    document = rayjob(spec, "tickets", "tickets-train-7f3a", attempt=2)
    assert faults([document]) == []
    job = document["spec"]
    assert document["metadata"]["name"] == job["jobId"] == "tickets-train-7f3a-2"
    assert document["metadata"]["labels"]["slipway/run"] == "tickets-train-7f3a"
    assert job["shutdownAfterJobFinishes"] is True
    assert sizes(document) == {"gpu": 2}


@pytest.mark.parametrize(
    ("train", "expected", "cpus"),
    [
        ("workers: 2", {"cpu": 1}, 4),
        ("workers: 20", {"cpu": 2, "big": 1}, 1),
        ("workers: 3, pool: big", {"big": 1}, 21),
        ("workers: 2, cpus_per_worker: 16", {"big": 1}, 16),
        ("workers: 3, cpus_per_worker: 8", {"cpu": 2, "big": 1}, 8),
    ],
)
def test_a_run_on_cpus_fills_nodes_and_shares_no_others(spec_of, faults, train, expected, cpus):
    spec = spec_of(
        "pools: [{name: cpu, nodes: 1..2, cpus: 8}, {name: big, nodes: 0..50, cpus: 64}]",
        rest=MODELS.replace("TRAIN", train),
    )
    *_, job = documents = run_documents(spec, "tickets", "tickets-train-7f3a")
    assert faults(documents) == []
    assert broken_rules(job) == []
    assert sizes(job) == expected
    workers = spec.model("tickets").train.workers.max
    own = run_spec(spec, "tickets", workers)
    assert own.model("tickets").train.cpus_per_worker == cpus
    # the meter of its driver counts as the plan does
    for each in (spec, own):
        assert num_nodes(each, each.model("tickets"), workers) == sum(expected.values())


def test_a_sweep_has_nodes_for_the_workers_of_all_its_trials(spec_of):
    spec = spec_of(
        "pools: [{name: cpu, nodes: 0..9, cpus: 4}]", rest=MODELS.replace("TRAIN", "workers: 2")
    )
    assert sizes(rayjob(spec, "tickets", "tickets-tune-7f3a", workers=10)) == {"cpu": 3}
    *_, job = run_documents(spec, "tickets", "tickets-tune-7f3a", workers=10)
    assert sizes(job) == {"cpu": 3}


def test_a_driver_runs_off_the_head_where_there_are_nodes_and_takes_no_cpus(spec_of):
    job = rayjob(spec_of("pools: [{name: cpu, cpus: 1}]"), "tickets", "a-train-7f3a")["spec"]
    assert job["entrypointResources"] == '{"driver": 0.001}'
    assert "entrypointNumCpus" not in job
    cluster = job["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert group["rayStartParams"]["resources"] == r'"{\"driver\": 1}"'
    assert "resources" not in cluster["headGroupSpec"]["rayStartParams"]
    alone = rayjob(spec_of("head: {cpus: 4}"), "tickets", "a-train-7f3a")["spec"]
    assert "entrypointResources" not in alone


def test_a_long_run_has_a_name_that_kuberay_takes(spec_of):
    document = rayjob(spec_of(), "tickets", "a" * 40 + "-train-7f3a")
    assert len(document["metadata"]["name"]) <= 47
    assert document["spec"]["jobId"] == "a" * 40 + "-train-7f3a-1"
