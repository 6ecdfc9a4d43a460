"""What Kubernetes, clouds and operators say, in a line of cause and a line of remedy."""

from __future__ import annotations

import pytest

from cluster.kubernetes.causes import explain
from cluster.kubernetes.reasons import reasons

SAID = [
    (
        'pods "x" is forbidden: exceeded quota: slipway, requested: requests.nvidia.com/gpu=8, '
        "used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=0",
        "the quota slipway of the namespace is used up (this asks for requests.nvidia.com/gpu=8)",
    ),
    (
        "couldn't assign flavors to pod set gpu: insufficient unused quota for nvidia.com/gpu in "
        "flavor default, 8 more needed",
        "the queue is full: no nvidia.com/gpu is left",
    ),
    ("LocalQueue team-c doesn't exist", "no queue team-c"),
    ('CreateContainerConfigError: secret "hf" not found', "the Secret hf is missing"),
    ('MountVolume.SetUp failed for volume "secrets" : secret "s3" not found', "Secret s3"),
    (
        "CreateContainerConfigError: couldn't find key value in Secret ml/hf",
        "the Secret hf has no key value",
    ),
    (
        'Failed to pull image "r/x:1": rpc error: code = Unknown desc = failed to resolve: '
        "unexpected status: 401 Unauthorized",
        "the registry refuses",
    ),
    (
        'Failed to pull image "r/x:2": rpc error: code = NotFound desc = failed to pull and '
        'unpack image "r/x:2": failed to resolve reference "r/x:2": r/x:2: not found',
        "the registry has no such image",
    ),
    ("ImagePullBackOff: Back-off pulling image", "the image cannot be pulled"),
    (
        'ErrImageNeverPull: Container image "x:1" is not present with pull policy of Never',
        "not on the node",
    ),
    (
        "CrashLoopBackOff: back-off 40s restarting failed container=autoscaler pod=acme-head_ml(1)",
        "ends again and again",
    ),
    (
        'pods "acme-head-x" is forbidden: no PriorityClass with name slipway-run was found',
        "no PriorityClass slipway-run",
    ),
    (
        'pods "acme-head-x" is forbidden: error looking up service account ml/slipwy: '
        'serviceaccount "slipwy" not found',
        "no ServiceAccount slipwy",
    ),
    (
        "0/5 nodes are available: 3 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint "
        "{node-role.kubernetes.io/control-plane: }. preemption: 0/5 nodes are available",
        "no node has that many accelerators",
    ),
    (
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
        "no node carries the labels",
    ),
    (
        "0/2 nodes are available: 2 node(s) had untolerated taint {team: red}.",
        "tainted with team",
    ),
    ("0/2 nodes are available: 2 Insufficient memory.", "enough memory free"),
    (
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        "a volume is not bound",
    ),
    (
        "FailedScaleUp: Node scale up in zones us-central1-a failed: GCE_STOCKOUT",
        "no such machine to give now (GCE_STOCKOUT)",
    ),
    (
        "creating instance, insufficient capacity, with fleet error(s), "
        "InsufficientInstanceCapacity: We currently do not have sufficient p5.48xlarge capacity",
        "no such machine to give now",
    ),
    ("VcpuLimitExceeded: You have requested more vCPU capacity", "account's own quota"),
    ("pod didn't trigger scale-up: 1 max node group size reached", "at their largest"),
    ("NotTriggerScaleUp: pod didn't trigger scale-up", "none would be added"),
    ("Error: No module named 'jobs'", "does not hold the module jobs"),
    ("OOMKilled: ", "more memory than it asked for"),
    ("RuntimeError: Version mismatch: The cluster was started with Ray 2.59", "another version"),
    ("The RayCluster spec is invalid ml/acme: authOptions.mode is", "the operator refuses"),
    (
        'pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged',
        "pod security standard",
    ),
]


@pytest.mark.parametrize(("message", "cause"), SAID)
def test_a_message_has_a_cause_and_a_remedy(message, cause):
    found = explain(message)
    assert found is not None
    assert cause in found[0]
    assert len(found[1]) > 10
    assert "%" not in "".join(found)


def test_an_unknown_message_stays_as_it_is():
    assert explain("something else entirely") is None


def pod(name, message):
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    return {
        "metadata": {"name": name},
        "status": {"phase": "Pending", "conditions": [condition]},
    }


def event(kind, name, reason, message, at="1", weight="Warning"):
    return {
        "type": weight,
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
    }


def test_ten_pods_of_one_cause_are_one_line():
    pods = [pod(f"w{n}", "0/3 nodes are available: 3 Insufficient cpu.") for n in range(10)]
    (reason,) = reasons(pods, [])
    assert str(reason).startswith("w0: no node is large enough")


def test_the_newest_event_speaks():
    events = [
        event("Pod", "w", "Failed", "ErrImagePull", "1"),
        event("Pod", "w", "FailedMount", 'secret "hf" not found', "2"),
    ]
    waiting = {"metadata": {"name": "w"}, "status": {"phase": "Pending"}}
    (reason,) = reasons([waiting], events)
    assert "Secret hf" in reason.cause


def test_what_a_pod_has_passed_is_no_reason():
    """Events stay for an hour: the Secret was made meanwhile, and the node fails now."""
    sandbox = "Failed to create pod sandbox: OCI runtime create failed"
    events = [
        event("Pod", "w", "FailedMount", 'secret "hf" not found', "2026-12-01T01:24:40Z"),
        event("Pod", "w", "FailedCreatePodSandBox", sandbox, "2026-12-01T01:29:20Z"),
    ]
    waiting = {"metadata": {"name": "w"}, "status": {"phase": "Pending"}}
    (reason,) = reasons([waiting], events)
    assert reason.cause == "the node cannot start containers"
    events.append(
        event("Pod", "w", "Pulling", "Pulling image r/x", "2026-12-01T01:29:30Z", "Normal")
    )
    assert reasons([waiting], events) == []


def test_events_of_the_newer_form_have_a_time():
    """The scheduler writes eventTime, and no lastTimestamp."""
    later = event("Pod", "w", "FailedScheduling", "0/1 nodes: 1 Insufficient cpu.", None)
    later["eventTime"] = "2026-12-01T01:29:20.000000Z"
    earlier = event("Pod", "w", "FailedMount", 'secret "hf" not found', "2026-12-01T01:20:00Z")
    waiting = {"metadata": {"name": "w"}, "status": {"phase": "Pending"}}
    (reason,) = reasons([waiting], [later, {**earlier, "reason": "Other"}])
    assert "cpu" in reason.cause


def test_a_pod_that_is_ready_gives_no_reason():
    ready = {
        "metadata": {"name": "w"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert reasons([ready], [event("Pod", "w", "Failed", "ErrImagePull")]) == []


def test_a_cluster_without_a_status_has_no_operator():
    (reason,) = reasons([], [], [{"metadata": {"name": "acme"}}])
    assert reason.cause == "no operator has looked at it"


def test_quota_that_refuses_pods_is_an_event_of_the_cluster():
    said = 'pods "acme-w" is forbidden: exceeded quota: slipway, requested: pods=1, used: pods=1'
    cluster = {"metadata": {"name": "acme"}, "status": {"state": ""}}
    (reason,) = reasons(
        [], [event("RayCluster", "acme", "FailedToCreateWorkerPod", said)], [cluster]
    )
    assert "the quota slipway" in reason.cause


def test_quota_is_no_reason_once_the_operator_could_make_the_pod():
    said = 'pods "acme-w" is forbidden: exceeded quota: slipway, requested: pods=1, used: pods=1'
    events = [event("RayCluster", "acme", "FailedToCreateHeadPod", said)]
    condition = {"type": "ReplicaFailure", "status": "True", "message": said}
    cluster = {"metadata": {"name": "acme"}, "status": {"conditions": [condition]}}
    (reason,) = reasons([], events, [cluster])
    assert "the quota slipway" in reason.cause
    condition["status"] = "False"
    assert reasons([], events, [cluster]) == []


def test_a_refusal_that_nobody_foresaw_is_shown_in_its_own_words():
    said = f"FailedCreateHeadPod\nspec.volumes[1].hostPath: Forbidden: may not {'x' * 200}"
    condition = {"type": "ReplicaFailure", "status": "True", "message": said}
    metadata = {"name": "acme", "namespace": "ml"}
    (reason,) = reasons([], [], [{"metadata": metadata, "status": {"conditions": [condition]}}])
    assert str(reason).startswith("acme: FailedCreateHeadPod spec.volumes[1].hostPath: Forbidden")
    assert len(reason.cause) == 200
    assert reason.remedy.startswith("kubectl -n ml describe raycluster acme")


def test_what_ended_a_container_is_said_while_it_backs_off():
    states = {
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"reason": "OOMKilled"}},
    }
    running = {"phase": "Running", "containerStatuses": [states]}
    (reason,) = reasons([{"metadata": {"name": "w"}, "status": running}], [])
    assert "more memory" in reason.cause


def test_kueue_says_why_it_does_not_admit():
    condition = {
        "type": "QuotaReserved",
        "status": "False",
        "message": "couldn't assign flavors to pod set head: insufficient quota for cpu in flavor",
    }
    workload = {"metadata": {"name": "raycluster-acme"}, "status": {"conditions": [condition]}}
    (reason,) = reasons([], [], [], [workload])
    assert "no cpu is left" in reason.cause
