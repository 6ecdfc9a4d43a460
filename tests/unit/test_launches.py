"""What Ray's autoscaler says of nodes that come, and of those that do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster import api, client
from cluster.clouds import TABLE, explain_cloud
from cluster.connection import Connection
from cluster.launches import growth

EC2 = "An error occurred ({}) when calling the RunInstances operation: {}"
SAID = [
    (EC2.format("ExpiredToken", "The security token included is expired"), "have expired"),
    ("google.auth.exceptions.DefaultCredentialsError: File not found", "absent, or are refused"),
    ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", "absent"),
    (EC2.format("AuthFailure", "AWS was not able to validate"), "refused"),
    (
        EC2.format(
            "UnauthorizedOperation",
            "You are not authorized. User: arn:aws:sts::1:x is not authorized to perform: "
            "ec2:RunInstances on resource",
        ),
        "lack the right ec2:RunInstances",
    ),
    ("Required 'compute.instances.create' permission for 'projects/x'", "compute.instances.create"),
    (EC2.format("UnauthorizedOperation", "denied"), "may not start machines"),
    ("Compute Engine API has not been used in project 1 before", "switched off"),
    (EC2.format("PendingVerification", "Your request is being validated"), "yet (PendingVerif"),
    (
        EC2.format(
            "Unsupported",
            "Your requested instance type (p5.48xlarge) is not supported in your requested "
            "Availability Zone (eu-west-1c)",
        ),
        "has no such machine",
    ),
    ("'projects/x/zones/z/acceleratorTypes/nvidia-h100-80gb' was not found", "no such machine"),
    (EC2.format("InvalidAMIID.NotFound", "The image id"), "image is not there (InvalidAMIID.NotF"),
    (EC2.format("InvalidKeyPair.NotFound", "The key pair"), "ssh key"),
    (EC2.format("InvalidSubnetID.NotFound", "The subnet"), "network"),
    (EC2.format("SpotMaxPriceTooLow", "Your Spot request price"), "cost more"),
    (EC2.format("InstanceLimitExceeded", "You have requested"), "own quota"),
    ("Quota 'NVIDIA_H100_GPUS' exceeded. Limit: 0.0 in region us-central1.", "own quota"),
    (EC2.format("RequestLimitExceeded", "Request limit exceeded."), "fewer requests"),
    ('Could not connect to the endpoint URL: "https://ec2.eu-wst-1"', "does not answer"),
]


@pytest.mark.parametrize(("message", "cause"), SAID)
def test_a_clouds_error_has_a_cause_and_a_remedy(message: str, cause: str) -> None:
    found = explain_cloud(message)
    assert found is not None
    assert cause in found[0]
    assert len(found[1]) > 10


def test_every_row_of_the_table_is_tried() -> None:
    matched = {explain_cloud(message)[1] for message, _ in SAID}  # type: ignore[index]
    assert len(matched) == len({remedy for *_, remedy in TABLE})


def report(**found: Any) -> dict[str, Any]:
    return {"clusterStatus": {"autoscalerReport": found}}


def test_nodes_that_start_are_counted() -> None:
    found = growth(
        report(pendingLaunches={"gpu": 2}, pendingNodes=[["10.0.0.2", "cpu", "setting-up"]])
    )
    assert found.shown() == "1 of cpu and 2 of gpu are starting"
    assert growth({"clusterStatus": None}).shown() == ""
    assert growth(report(pendingLaunches={"gpu": 1})).shown() == "1 of gpu is starting"


def test_nodes_that_cannot_be_had_say_why() -> None:
    def record(category: str, description: str) -> dict[str, Any]:
        said = {"category": category, "description": description}
        return {"nodeType": "gpu", "isAvailable": False, "unavailableNodeInformation": said}

    known = record("InsufficientInstanceCapacity", "We currently do not have capacity")
    [trouble] = growth(
        report(nodeAvailabilitySummary={"nodeAvailabilities": {"gpu": known}})
    ).troubles
    assert str(trouble).startswith("nodes of gpu: the cloud has no such machine to give now")
    assert "alternatives" in trouble.remedy
    odd = record("Oddity", "something new")
    [trouble] = growth(
        report(nodeAvailabilitySummary={"nodeAvailabilities": {"gpu": odd}})
    ).troubles
    assert trouble.cause == "Oddity: something new"
    fine = {"nodeType": "cpu", "isAvailable": True, "unavailableNodeInformation": None}
    assert not growth(report(nodeAvailabilitySummary={"nodeAvailabilities": {"c": fine}})).troubles


def test_the_second_autoscaler_speaks_in_text() -> None:
    text = """======== Autoscaler status: 2026-11-25 02:47:10.923255 ========
Node status
---------------------------------------------------------------
Pending:
 gpu-h100-8, 2 launching
Recent failures:
 gpu-h100-8: LaunchFailed (latest_attempt: 02:46:00) - InsufficientInstanceCapacity: no capacity
 cpu: LaunchFailed (latest_attempt: 02:46:00)
 spot: LaunchFailed (latest_attempt: 02:41:00)
 spot: NodeTerminated (instance_id: acme-spot-worker-554jl)

Resources
"""
    found = growth({"clusterStatus": text})
    assert found.starting == {"gpu-h100-8": 2}
    first, second = found.troubles
    assert "no such machine to give now" in first.cause
    assert second.cause == "the cloud did not give one"


def test_status_tells_it_beside_what_waits(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.spec import load
    from cluster.status import describe_waiting, status

    (tmp_path / "cluster.yaml").write_text(
        "name: acme\ncluster:\n  provider: {type: aws}\n  storage: s3://b/x\n"
        "  pools: [{name: gpu, nodes: 0..2, accelerators: H100:8}]\n"
    )
    spec = load(tmp_path / "cluster.yaml")
    said = {"category": "VcpuLimitExceeded", "description": "more vCPU than your limit"}
    record = {"nodeType": "gpu", "isAvailable": False, "unavailableNodeInformation": said}
    answers: dict[str, Any] = {
        "/api/cluster_status": {
            "data": report(
                pendingLaunches={"gpu": 1},
                nodeAvailabilitySummary={"nodeAvailabilities": {"gpu": record}},
            )
        },
    }
    group = {"placement_group_id": "ab", "name": "", "creator_job_id": "02"}
    group["bundles"] = [{"unit_resources": {"GPU": 8}}]  # type: ignore[assignment]

    def get(connection: Any, path: str, **_: Any) -> Any:
        if path in answers:
            return answers[path]
        rows = [group] if "placement_groups" in path else []
        return {"data": {"result": {"result": rows}}}

    pending = client.JobState("m-train-1-2", "PENDING", "it waits for a CPU", None, 1.0, None)
    running = client.JobState("m-train-1-1", "RUNNING", "", None, 1.0, None, job_id="02")
    monkeypatch.setattr(api, "get", get)
    monkeypatch.setattr("cluster.status.jobs", lambda connection: [running, pending])
    lines = [describe_waiting(w) for w in status(Connection("a", "", "http://x"), spec).waiting]
    assert lines[0].startswith("m-train-1-1 (8 GPUs): waiting for 8 GPUs: the cluster has 0 and is")
    assert lines[0].endswith("; 1 of gpu is starting")
    assert lines[1] == "m-train-1-2: it waits for a CPU"
    assert lines[2].startswith("nodes of gpu: the cloud account's own quota is used up (VcpuLimit")


def test_status_tells_what_kubernetes_says(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.kubernetes import applying
    from cluster.kubernetes import client as kubernetes
    from cluster.kubernetes.reasons import Reason
    from cluster.spec import load
    from cluster.status import describe_waiting, status

    (tmp_path / "cluster.yaml").write_text(
        "name: acme\ncluster:\n  provider: {type: kubernetes, image: i}\n  storage: s3://b/x\n"
        "  head: {cpus: 2}\n"
    )
    spec = load(tmp_path / "cluster.yaml")
    reason = Reason("acme-gpu-1", "the image cannot be pulled", "is its name right?")
    monkeypatch.setattr(kubernetes, "connect", lambda provider: SimpleNamespace(get=lambda *_: {}))
    monkeypatch.setattr(applying, "why", lambda *_: [reason])
    empty: dict[str, Any] = {"data": {"result": {"result": []}, "clusterStatus": ""}}
    monkeypatch.setattr(api, "get", lambda *_, **__: empty)
    monkeypatch.setattr("cluster.status.jobs", lambda connection: [])
    [waiting] = status(Connection("a", "", "http://x"), spec).waiting
    assert describe_waiting(waiting) == f"{reason}"
