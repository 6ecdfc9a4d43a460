"""A head that dies whole and comes back over Redis, as its pod does on Kubernetes.

What KubeRay does is done by hand, for there is no Kubernetes here: `ray start` on two hosts, the
head's again when it has ended. What the rendered manifests ask for is asked for here: jobs and the
services' front in the pool, Serve's proxy on every node.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.client import STOPPING
from tests.hosts.lab import EXTENSIONS, ROOT, Lab, address, hosts, lacking, wait_for
from tests.hosts.test_onprem import SECRETS, STORE, document, last_step

WHY_NOT = lacking() or (None if shutil.which("redis-server") else "needs apt install redis-server")
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

TOKEN, CLIENT = "t" * 32, "sw-abcdefghijklmnop"
POOL = "slipway/pool=cpu"
KILL_RAY = "for p in $(pgrep -f '[r]ay'); do grep -q bash /proc/$p/comm || kill -9 $p; done"
"""All of it at once, but for the shell that starts it again."""
LIKE_KUBERNETES = f"""
import sys
import cluster.services, jobs.submissions, serve.verbs
from cluster.kubernetes.rayservice import serve_config
from serve.applications import applications
from slipway import main
jobs.submissions.off_head = lambda *_: dict(["{POOL}".split("=")])
serve.verbs.document = lambda spec, models, environment, tokens: serve_config(
    spec, [a | {{"runtime_env": dict(environment)}} for a in applications(spec, models, tokens)])
cluster.services.address = lambda spec: "http://{address(2)}:8000"
sys.exit(main())
"""


class Typed(Lab):
    """A laptop whose `slipway` asks for what it asks for on Kubernetes."""

    def slipway(self, *arguments: str) -> Any:
        words = shlex.join([sys.executable, "-c", LIKE_KUBERNETES, *arguments])
        return self.start("laptop", "bash", "-c", f"cd project && PYTHONPATH={ROOT} exec {words}")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = document()
    provider = {"type": "ray", "address": f"http://{address(1)}:8265", "token": {"secret": "ray"}}
    pools = [{"name": "cpu", "nodes": 1, "cpus": 4}]
    made["cluster"] = {"provider": provider, "storage": made["cluster"]["storage"], "pools": pools}
    made["services"] = {"host": "0.0.0.0", "port": 8000, "tokens": {"secret": "clients"}}
    long = made["models"]["k"]
    short = long | {"train": long["train"] | {"steps": 60}, "serve": {"replicas": 1, "cpus": 0.5}}
    made["models"] = {"k": long, "m": short}
    with hosts(tmp_path / "lab", 3, Typed) as lab, lab.serving(STORE):
        lab.write(made, secrets())
        yield lab


def secrets() -> dict[str, str]:
    return SECRETS | {"ray": TOKEN, "clients": f"owner {CLIENT}\n"}


def start_ray(lab: Lab, host: str, arguments: str, **more: str) -> None:
    """`ray start` as a container that is started again when it ends."""
    for name, value in secrets().items():
        path = lab.folder / host / "home" / ".config" / "slipway" / "secrets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_text(value)
    environment = STOPPING | more | {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": EXTENSIONS}
    exports = "".join(f"export {name}={shlex.quote(it)}; " for name, it in environment.items())
    exports += "export RAY_AUTH_TOKEN_PATH=~/.config/slipway/secrets/ray; "
    size = "--memory=2000000000 --object-store-memory=200000000 --block"
    loop = f"while true; do ray start {arguments} {size} >>/tmp/log 2>&1; sleep 1; done"
    lab.start(host, "bash", "-c", exports + loop, stdout=None, stderr=None)


def alive(lab: Lab) -> int:
    """Nodes that are, 0 where no head answers."""
    process = lab.slipway("status", "--json")
    output, _ = process.communicate(timeout=120)
    if process.returncode:
        return 0
    return output.count('"alive": true')


def asked(lab: Lab) -> str:
    """The status that the services on the second host answer the laptop with."""
    words = 'curl -s -o /dev/null -w %{http_code} --max-time 30 -d \'{"inputs": "The"}\' '
    words += f"-H 'Content-Type: application/json' -H 'Authorization: Bearer {CLIENT}' "
    return lab.ask("laptop", f"{words} http://{address(2)}:8000/models/m")


def test_a_run_and_services_outlive_the_whole_head(lab: Lab) -> None:
    redis = ["--bind", address(3), "--protected-mode", "no", "--save", ""]
    lab.start("host3", "redis-server", *redis, stdout=None, stderr=None)
    head = f"--head --node-ip-address={address(1)} --port=6379 --dashboard-host=0.0.0.0"
    kept = {"RAY_REDIS_ADDRESS": f"{address(3)}:6379", "RAY_external_storage_namespace": "acme"}
    start_ray(lab, "host1", f"{head} --num-cpus=0", **kept)
    wait_for("the head", lambda: alive(lab) == 1, 120)
    worker = f"--address={address(1)}:6379 --node-ip-address={address(2)} --num-cpus=4"
    patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "600"}  # what KubeRay gives workers
    start_ray(lab, "host2", f"{worker} --labels={POOL}", **patience)
    wait_for("the worker", lambda: alive(lab) == 2, 120)
    lab.answer("run", "m", "--until", "train")
    lab.answer("promote", "m")
    lab.answer("serve", "m")
    run = lab.slipway("run", "k", "--until", "train", "--json")
    wait_for("steps", lambda: last_step(lab, "k") > 50, 180)
    lab.ask("host1", KILL_RAY)
    began, before, statuses = time.monotonic(), last_step(lab, "k"), []
    while time.monotonic() < began + 40:
        statuses.append(asked(lab))
        time.sleep(0.5)
    assert statuses == ["200"] * len(statuses)
    wait_for("new steps", lambda: last_step(lab, "k") > before + 500, began + 60 - time.monotonic())
    wait_for("the next head", lambda: alive(lab) == 2, 120)
    heads = [node["alive"] for node in lab.answer("status")["nodes"] if node["head"]]
    assert sorted(heads) == [False, True]  # it did die, whole
    output, errors = run.communicate(timeout=420)
    assert run.returncode == 0, output + errors[-3000:]
    assert "attempt 2" not in errors  # nothing was trained again
    assert asked(lab) == "200"
