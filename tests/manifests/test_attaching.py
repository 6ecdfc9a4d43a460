"""The job API of a cluster on Kubernetes, through the stand-in's port-forward."""

from __future__ import annotations

import base64
import json
import random
import socket
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from platform import python_version
from typing import Any

import pytest
import yaml

from cluster import api as job_api
from cluster import client, verbs
from cluster.attach import connect, connect_existing
from cluster.connection import ClusterError
from cluster.kubernetes import attaching
from cluster.kubernetes.applying import up
from cluster.kubernetes.client import connect as connect_kube
from cluster.kubernetes.forwarding import CARRIERS, Forward
from cluster.request import Request
from cluster.spec import StorageSpec
from cluster.storage import open_storage
from jobs.runs import Run
from jobs.submissions import submit
from tests.manifests.fake_api import FakeApi, serving
from tests.manifests.test_applying import kubeconfig

PROVIDER = "namespace: ml, context: prod"


class Dashboard(BaseHTTPRequestHandler):
    """As much of Ray's as is asked here; big answers too."""

    token = ""
    answers: dict[str, Any] = {}  # noqa: RUF012
    uploaded = 0
    submitted: list[str] = []  # noqa: RUF012
    places: list[Any] = []  # noqa: RUF012
    loses_answers = False

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/jobs/")
        if name in self.submitted:
            self._answer(200, {"submission_id": name, "status": "RUNNING"})
        else:
            self._answer(200 if self.path in self.answers else 404, self.answers.get(self.path))

    def do_PUT(self) -> None:
        type(self).uploaded += len(self._body())
        self._answer(200, {})

    def do_POST(self) -> None:
        asked = json.loads(self._body())
        self.submitted.append(asked["submission_id"])
        self.places.append(asked.get("entrypoint_label_selector"))
        if self.loses_answers:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(200, {"submission_id": self.submitted[-1], "job_id": self.submitted[-1]})

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        chunks = b""
        while size := int(self.rfile.readline(), 16):
            chunks += self.rfile.read(size)
            self.rfile.readline()
        return chunks

    def _answer(self, status: int, document: Any) -> None:
        known = self.headers.get("Authorization") == f"Bearer {self.token}"
        body = json.dumps(document).encode()
        self.send_response(status if known else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def api(faults, tmp_path, monkeypatch):
    fake = FakeApi(faults)
    versions = {"rayVersion": metadata.version("ray"), "pythonVersion": python_version()}
    Dashboard.answers = {
        "/api/v0/cluster_metadata": {"data": versions},
        "/big": {"text": "x" * 200_000},
        "/api/version": {"version": "4", "ray_version": metadata.version("ray"), "ray_commit": "x"},
    }
    Dashboard.uploaded, Dashboard.loses_answers = 0, False
    Dashboard.submitted, Dashboard.places = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    fake.dashboard = ("127.0.0.1", server.server_address[1])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(attaching, "_FORWARDS", {})
    with serving(fake) as address:
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(kubeconfig(address)))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def spec(spec_of):
    return spec_of("head: {cpus: 4}", provider=PROVIDER)


@pytest.fixture
def raised(api, spec):
    """The spec's cluster is up, and its dashboard knows its token."""
    up(spec, connect_kube(spec.cluster.provider), lambda line: None)
    Dashboard.token = value(api)
    return api


def value(api):
    """The cluster's token."""
    secret = api.objects["secrets", "acme-ray-token"]["data"]["auth_token"]
    return base64.b64decode(secret).decode()


def test_requests_go_through_the_api_with_the_secrets_token(raised, spec):
    connection = connect(spec)
    assert job_api.get(connection, "/big") == {"text": "x" * 200_000}
    assert connection.api_url.startswith("http://127.0.0.1:")
    assert connection.token() == Dashboard.token
    assert stat.S_IMODE(connection.token_path.stat().st_mode) == 0o600
    assert not any(Dashboard.token in line for line in raised.requests)


def test_clusters_of_one_name_at_two_apis_keep_their_own_tokens(raised, spec, tmp_path, faults):
    mine = connect(spec).token_path
    other = FakeApi(faults)
    secret = raised.objects["secrets", "acme-ray-token"] | {"data": {"auth_token": "b3RoZXI="}}
    other.put(secret, "secrets")
    with serving(other) as address:
        (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig(address)))
        theirs = attaching.keep_token(spec, connect_kube(spec.cluster.provider))
    assert theirs.read_text() == "other"
    assert mine.read_text() == Dashboard.token


def test_a_job_is_submitted_once_even_where_the_answer_is_lost(raised, spec, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "noise").write_bytes(random.Random(0).randbytes(300_000))
    connection = connect(spec)
    for name, lost in (("r", False), ("r", False), ("s", True)):
        Dashboard.loses_answers = lost
        assert client.submit(connection, name, 1, ["-m", "x"], tmp_path / "work") == f"{name}-1"
    assert Dashboard.submitted == ["r-1", "s-1"]
    assert Dashboard.uploaded > 300_000


def test_a_runs_driver_is_asked_onto_a_pool_that_is_always_there(raised, spec_of, tmp_path):
    for pools in ("", "pools: [{name: cpu, cpus: 2, nodes: 1}]"):
        spec = spec_of(f"head: {{cpus: 4}}\n{pools}", provider=PROVIDER)
        storage = open_storage(StorageSpec(url=str(tmp_path / "store")), spec.name)
        submit(connect(spec), spec, Run.open(storage, "m", "train", "0" * 8), ["jobs.train"])
    assert Dashboard.places == [None, {"slipway/pool": "cpu"}]


def test_env_is_for_kubectls_own_forward(raised, spec, tmp_path, capsys):
    verbs.env(Request(tmp_path / "cluster.yaml"))
    shown = capsys.readouterr()
    assert "export RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265\n" in shown.out
    assert "kubectl -n ml port-forward service/acme-head-svc 8265" in shown.err
    assert Dashboard.token not in shown.out + shown.err


def test_a_head_that_was_replaced_is_found_again(raised, spec):
    connection = connect(spec)
    del raised.objects["pods", "acme-head"]
    with pytest.raises(job_api.UnreachableError, match="acme has no running pod; kubectl -n ml"):
        job_api.get(connection, "/big")
    raised.put_head("acme")
    assert job_api.get(connection, "/big")


def test_a_connection_that_breaks_prints_no_traceback(monkeypatch):
    """The client's own thread raises it; whoever uses the connection hears of it."""
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: told.append(str(raised.exc_value)))
    for _ in range(2):
        Forward(lambda: socket.socket()).close()
    for error, name in ((OSError("cut"), f"{CARRIERS}: 8265"), (ValueError("other"), "mine")):

        def fail(error=error):
            raise error

        thread = threading.Thread(target=fail, name=name)
        thread.start()
        thread.join()
    assert told == ["other"]


def test_what_is_not_up_is_not_started(api, spec):
    assert connect_existing(spec) is None
    with pytest.raises(ClusterError, match="acme is not up; slipway up starts it"):
        connect(spec)


def test_a_cluster_that_is_not_ready_says_why(raised, spec):
    raised.objects["rayclusters", "acme"]["status"] = {"state": "suspended"}
    with pytest.raises(ClusterError, match="acme is not ready"):
        connect(spec)


def test_the_right_to_forward_ports_is_named(raised, spec):
    raised.refuse["create pods/portforward"] = (
        403,
        'pods "acme-head" is forbidden: User "eve" cannot create resource "pods/portforward" in '
        'API group "" in the namespace "ml"',
    )
    with pytest.raises(job_api.UnreachableError, match="no right to create pods/portforward"):
        connect(spec)


def test_a_token_that_may_not_be_read_is_named(raised, spec):
    raised.refuse["get secrets"] = (
        403,
        'secrets "acme-ray-token" is forbidden: User "eve" cannot get resource "secrets" in API '
        'group "" in the namespace "ml"',
    )
    with pytest.raises(ClusterError, match="no right to get secrets"):
        connect(spec)
