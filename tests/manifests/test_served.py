"""The services of a RayService, reached through the stand-in's port-forward; ``down`` asks them."""

from __future__ import annotations

import contextlib
import time

import pytest

from cluster import services
from cluster.attach import connect_services
from cluster.kubernetes import served, verbs
from cluster.request import Request, WrongRequestError
from tests.manifests.test_attaching import Dashboard, api, raised, spec, value

__all__ = ["api", "raised", "spec"]  # fixtures
LABELS = {"slipway/cluster": "acme"}


@contextlib.contextmanager
def served_by(api, spec, tmp_path, monkeypatch):
    """A model that answered half an hour ago, deployed a day ago, while the block lasts."""
    Dashboard.token = value(api)
    monkeypatch.setenv("SLIPWAY_SECRETS", str(tmp_path))
    monkeypatch.setattr(served, "_FORWARDS", {})
    services.token_file(spec).write_text(f"owner {Dashboard.token}\n")
    services.token_file(spec).chmod(0o600)
    service = {"kind": "RayService", "metadata": {"name": "acme-serve", "labels": LABELS}}
    service["status"] = {"activeServiceStatus": {"rayClusterName": "acme-serve-x1"}}
    api.put(service, "rayservices")
    api.put_head("acme-serve-x1")
    labels = {"ray.io/cluster": "acme-serve-x1", "ray.io/serve": "true"}
    pod = {"kind": "Pod", "metadata": {"name": "w", "labels": labels}}
    pod["status"] = {"phase": "Running"}
    api.put(pod, "pods")
    model = {"status": "RUNNING", "route_prefix": "/models/tickets", "deployments": {}}
    model["last_deployed_time_s"] = time.time() - 86400
    counts = {"requests": 1, "errors": 0, "refused": 0, "p50_ms": 2.0, "p99_ms": 2.0}
    counts["last"] = time.time() - 1800
    Dashboard.answers["/api/serve/applications/"] = {"applications": {"tickets": model}}
    Dashboard.answers["/status"] = {"versions": {"tickets@1": counts}, "trouble": {}}
    Dashboard.answers["/api/jobs/"] = []
    yield api
    for key in (("rayservices", "acme-serve"), ("pods", "w"), ("pods", "acme-serve-x1-head")):
        api.objects.pop(key, None)


@pytest.fixture
def serving(raised, spec, tmp_path, monkeypatch):
    with served_by(raised, spec, tmp_path, monkeypatch) as api:
        yield api


def test_status_shows_what_they_answered(serving, spec):
    (line, counts) = services.lines(services.describe(connect_services(spec, None), spec))
    assert line.startswith("tickets: ")
    assert counts.startswith("  tickets@1: 1 requests")


def test_without_a_pod_that_takes_requests_there_is_no_service(serving, spec):
    del serving.objects["pods", "w"]
    with pytest.raises(services.NoServiceError, match="no services of acme take requests"):
        services.ask(spec, "/status")
    del serving.objects["rayservices", "acme-serve"]
    assert connect_services(spec, None) is None


def test_down_refuses_while_they_are_in_use(serving, tmp_path):
    request = Request(tmp_path / "cluster.yaml")
    with pytest.raises(WrongRequestError, match=r"services are in use.*: tickets;"):
        verbs.down(request, request.spec())
    Dashboard.answers["/status"]["versions"]["tickets@1"]["last"] -= 7200
    verbs.down(request, request.spec())
    assert ("rayservices", "acme-serve") not in serving.objects


def test_down_refuses_where_a_job_is_under_way_or_nothing_can_be_told(serving, tmp_path):
    request = Request(tmp_path / "cluster.yaml")
    Dashboard.answers["/status"]["versions"] = {}
    job = {"type": "SUBMISSION", "submission_id": "r-1", "status": "RUNNING"}
    Dashboard.answers["/api/jobs/"] = [job]
    with pytest.raises(WrongRequestError, match="under way: r-1;"):
        verbs.down(request, request.spec())
    del serving.objects["pods", "acme-head"]
    with pytest.raises(WrongRequestError, match=r"cannot be told: .*down -y"):
        verbs.down(request, request.spec())
    verbs.down(Request(tmp_path / "cluster.yaml", yes=True), request.spec())
    assert ("rayclusters", "acme") not in serving.objects
