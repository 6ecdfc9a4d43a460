"""kubectl takes what ``render`` prints, against the stand-in for the API."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cluster.documents import write_documents
from cluster.kubernetes.documents import documents
from tests.manifests.fake_api import FakeApi, serving


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_applies_what_is_printed(faults, spec_of):
    spec = spec_of("high_availability: redis\nhead: {cpus: 4}", provider="namespace: ml")
    printed = write_documents(documents(spec))
    api = FakeApi(faults)
    with serving(api) as address:

        def kubectl(*arguments, given=""):
            command = ["kubectl", "--server", address, "-n", "ml", *arguments]
            return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)

        apply = ("apply", "--server-side", "--validate=false", "-f", "-")
        done = kubectl(*apply, given=printed)
        assert done.returncode == 0, done.stderr
        assert "raycluster.ray.io/acme serverside-applied" in done.stdout
        seen = kubectl("get", "raycluster", "acme", "-o", "jsonpath={.status.state}")
        assert seen.stdout == "ready"
        ended = kubectl("delete", "--wait=false", "raycluster", "acme")
        assert ended.returncode == 0, ended.stderr
    assert ("rayclusters", "acme") not in api.objects
