"""``slipway run --ephemeral`` against the stand-in, with a driver that is played by the test."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
import yaml

from cluster.parts import PartWriter
from cluster.request import Request, WrongRequestError
from cluster.storage import open_storage
from jobs.forecast import Needs
from jobs.runs import Run, list_runs
from jobs.submissions import End, record_end, submissions
from jobs.verbs import apart, records, stages
from tests.manifests.fake_api import FakeApi, serving
from tests.manifests.test_applying import kubeconfig

SPEC = """
name: acme
cluster:
  provider: {type: kubernetes, context: prod, namespace: ml, image: "r.acme.com/slipway:1"}
  storage: {url: s3://BUCKET/team, endpoint: "ENDPOINT", credentials: {secret: s3}}
  pools: [{name: cpu, nodes: 0..2, cpus: 4}]
models:
  tickets:
    domain: text
    task: generation
    data: {source: a.txt, tokenizer: {type: character}}
"""


@pytest.fixture
def api(tmp_path, monkeypatch):
    fake = FakeApi(lambda documents: [])
    keys = {"access_key": "eA==", "secret_key": "eA=="}
    fake.put({"kind": "Secret", "metadata": {"name": "s3"}, "data": keys}, "secrets")
    monkeypatch.setattr(apart, "LOOK_EVERY_S", 0.05)
    with serving(fake) as address:
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(kubeconfig(address)))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield fake


@pytest.fixture
def request_(tmp_path, s3_address):
    bucket = s3_address.url.split("/")[2]
    text = SPEC.replace("BUCKET", bucket).replace("ENDPOINT", s3_address.endpoint)
    (tmp_path / "cluster.yaml").write_text(text)
    (tmp_path / "a.txt").write_text("".join(f"line {n}\n" for n in range(200)))
    return Request(tmp_path / "cluster.yaml", json=True, yes=True)


def storage_of(request: Request) -> Any:
    spec = request.spec()
    return open_storage(spec.cluster.storage, spec.name)


def play(
    api: FakeApi,
    request: Request,
    phase: str,
    result: bool,
    message: str = "",
    end: End | None = None,
) -> None:
    """What operator and driver do: a log, perhaps a result and an end, and the RayJob's status."""
    deadline = time.monotonic() + 30
    while not (jobs := [k for k in api.objects if k[0] == "rayjobs"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job = api.objects[jobs[0]]
    storage = storage_of(request)
    (run,) = [each for each in list_runs(storage) if each.info()["stage"] == "train"]
    assert job["spec"]["jobId"] == f"{run.id}-1"
    assert job["spec"]["entrypoint"].endswith(f"tickets --until train --run {run.id} --apart")
    job["status"] = {"jobDeploymentStatus": "Running"}
    with PartWriter(storage, f"{run.path}/logs/{run.id}-1.log") as log:
        log.append("| starting 2 training workers")
    if result:
        number = run.next_attempt({"resumes": None})
        run.finish({"metrics": {"loss": 1.0}}, number)
    if end is not None:
        record_end(run, f"{run.id}-1", end)
    succeeded = "SUCCEEDED" if phase == "Complete" else "FAILED"
    job["status"] = {"jobDeploymentStatus": phase, "jobStatus": succeeded, "message": message}


def playing(*arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=play, args=arguments)
    thread.start()
    return thread


def train(request: Request) -> int:
    names = list(request.spec().models)
    return stages.run(request, names, "train", False, ephemeral=True)


def test_a_run_has_a_cluster_of_its_own_which_ends_with_it(api, request_, capfd):
    player = playing(api, request_, "Complete", True)
    assert train(request_) == 0
    player.join()
    shown = capfd.readouterr()
    assert json.loads(shown.out)["status"] == "complete"
    assert "starting 2 training workers" in shown.err
    (run,) = [each for each in list_runs(storage_of(request_))]
    assert [each["submission"] for each in submissions(run)] == [f"{run.id}-1"]
    assert not any(kind in ("rayjobs", "rayclusters") for kind, _ in api.objects)
    assert not any("spec" in name for kind, name in api.objects if kind == "configmaps")


@pytest.mark.parametrize("phase", ["Failed", "ValidationFailed"])
def test_what_failed_or_was_refused_says_why(api, request_, phase):
    player = playing(api, request_, phase, False, "no nodes within an hour")
    with pytest.raises(ValueError, match=r"failed: no nodes within an hour; slipway logs"):
        train(request_)
    player.join()


def test_a_gate_that_says_no_is_the_exit_code(api, request_):
    player = playing(api, request_, "Complete", True, "", End(3, "tickets@1 does not become it"))
    assert train(request_) == 3
    player.join()
    assert not any(kind == "rayjobs" for kind, _ in api.objects)


@pytest.mark.parametrize(
    ("end", "result", "message"),
    [
        (End(1, "a.txt is empty"), False, "failed: a.txt is empty; slipway logs tickets-train-"),
        (End(1, "evaluation: out of memory"), True, "failed: evaluation: out of memory; "),
        (End(2, "the budget is used up"), False, "failed: the budget is used up; "),
        (None, False, "before it could read the storage; kubectl -n ml logs job/tickets-train-"),
    ],
)
def test_what_its_driver_tells_is_told_here(api, request_, capfd, end, result, message):
    player = playing(api, request_, "Complete", result, "Job finished successfully.", end)
    with pytest.raises(ValueError, match=message) as caught:
        train(request_)
    player.join()
    assert getattr(caught.value, "exit_code", 1) == (end.exit_code if end else 1)
    records.runs(request_)
    state = json.loads(capfd.readouterr().out)["runs"][0]["state"]
    assert state == ("complete" if result else "failed" if end else "interrupted")


def test_asked_again_it_is_attached_to_and_stop_ends_it(api, request_, capfd):
    detached = Request(request_.file, json=True, yes=True, detach=True)
    train(detached)
    (name,) = [name for kind, name in api.objects if kind == "rayjobs"]
    version = api.objects["rayjobs", name]["metadata"]["resourceVersion"]
    train(detached)
    assert api.objects["rayjobs", name]["metadata"]["resourceVersion"] == version
    assert f"{name} is under way" in capfd.readouterr().err
    (run,) = list_runs(storage_of(request_))
    records.runs(request_)
    assert json.loads(capfd.readouterr().out)["runs"][0]["state"] == "running"
    records.stop(request_, run.id)
    assert not any(kind == "rayjobs" for kind, _ in api.objects)
    records.runs(request_)
    shown = capfd.readouterr().out
    assert json.loads(shown[shown.index('{\n  "runs"') :])["runs"][0]["state"] != "running"
    train(detached)
    assert [each["submission"] for each in submissions(Run(run.storage, run.id))] == [
        f"{run.id}-1",
        f"{run.id}-2",
    ]


def test_its_nodes_are_those_that_were_asked_about(api, request_):
    detached = Request(request_.file, json=True, yes=True, detach=True)
    stages.run(detached, ["tickets"], "train", False, ephemeral=True, takes=lambda *_: Needs(5, ""))
    (job,) = [each for (kind, _), each in api.objects.items() if kind == "rayjobs"]
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == 2
    (text,) = [
        each["data"]["spec.yaml"] for (kind, _), each in api.objects.items() if kind == "configmaps"
    ]
    assert "cpus_per_worker: 1" in text


def test_other_providers_have_no_such_runs(tmp_path):
    (tmp_path / "cluster.yaml").write_text(
        "name: a\nmodels: {m: {domain: text, task: generation, data: 'builtin:python-docs'}}\n"
    )
    with pytest.raises(WrongRequestError, match="provider local has no runs with a cluster"):
        train(Request(tmp_path / "cluster.yaml"))
