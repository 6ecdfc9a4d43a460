"""`provider: onprem` on fake hosts, all of it through `slipway`: up, a run that loses a host, down.

One cluster for all tests, which build on each other in their order.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hosts.lab import LAPTOP, ROOT, Lab, address, hosts, lacking, wait_for

WHY_NOT = lacking()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

SECRETS = {"s3/access_key": "AKIDSLIPWAYHOSTS", "s3/secret_key": "hush-hush-slipway-hosts"}
STORE = f"""
import boto3, threading
from moto.server import ThreadedMotoServer
ThreadedMotoServer("{LAPTOP}", port=9000, verbose=False).start()
keys = {{"aws_access_key_id": "x", "aws_secret_access_key": "x"}}
s3 = boto3.client("s3", endpoint_url="http://{LAPTOP}:9000", region_name="us-east-1", **keys)
s3.create_bucket(Bucket="bucket")
print("ready", flush=True)
threading.Event().wait()
"""
STEPS = 600


def document() -> dict[str, Any]:
    provider = {
        "type": "onprem",
        "head": address(1),
        "hosts": [address(number) for number in (2, 3, 4)],  # the last stands by
        "user": "root",
        "python": sys.executable,
    }
    storage = {"url": "s3://bucket/team", "endpoint": f"http://{LAPTOP}:9000"}
    pool = {"name": "cpu", "nodes": 2, "cpus": 2, "memory": "2Gi"}
    model = {
        "domain": "text",
        "task": "generation",
        "data": {"source": "builtin:python-docs", "tokenizer": {"type": "bpe", "size": 300}},
        "network": {"type": "gpt", "layers": 1, "heads": 2, "width": 32, "context": 32},
        "train": {
            "pool": "cpu",
            "steps": STEPS,
            "global_batch": 4,
            "workers": 2,
            "cpus_per_worker": 2,  # a host each
            "zero": {"stage": 2},
            "checkpoint": {"every": 50},
        },
        "serve": {"replicas": 1, "cpus": 0.5},
    }
    cluster = {
        "provider": provider,
        "head": {"memory": "1Gi"},
        "storage": storage | {"region": "us-east-1", "credentials": {"secret": "s3"}},
        "pools": [pool],
    }
    search = {"trials": 2, "search": "random", "scheduler": "none"}
    search |= {"space": {"train.optimizer.lr": {"log": [1e-4, 1e-2]}}}
    sought = {key: model[key] for key in ("domain", "task", "data", "network")}
    sought |= {"train": {"steps": 20, "global_batch": 4}, "tune": search}
    alone = {key: model[key] for key in ("domain", "task", "data", "network")}
    alone |= {"train": {"steps": 10 * STEPS, "global_batch": 4, "cpus_per_worker": 1}}
    return {"name": "hosts", "cluster": cluster, "models": {"m": model, "s": sought, "k": alone}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with hosts(tmp_path_factory.mktemp("lab"), 4) as lab, lab.serving(STORE):
        lab.write(document(), SECRETS)
        yield lab


def nodes(lab: Lab) -> set[str]:
    """Addresses of the hosts that are alive."""
    return {node["address"] for node in lab.answer("status")["nodes"] if node["alive"]}


def ray_on(lab: Lab, number: int) -> str:
    """What of Ray runs on a host."""
    return lab.ask(f"host{number}", "pgrep -fa '[r]ay' || true")


def test_hosts_that_cannot_be_used_are_named_before_anything_starts(lab: Lab) -> None:
    refused = lab.answer("up", "--set", "cluster.provider.user=nobody", code=1)["errors"]
    assert f"{address(4)}: ssh refuses the login" in refused[0]["message"]
    refused = lab.answer("run", code=1)["errors"]
    assert "hosts is not up; slipway up starts it" in refused[0]["message"]
    assert ray_on(lab, 1) == ""


def test_up_starts_the_head_and_its_least_hosts_and_twice_changes_nothing(lab: Lab) -> None:
    interrupted = lab.slipway("up", "--json")
    wait_for("Ray on the head", lambda: "gcs_server" in ray_on(lab, 1), 120)
    lab.ask("laptop", "pkill -TERM -f 'slipway.py [u]p'")
    interrupted.communicate(timeout=60)
    assert interrupted.returncode != 0
    first = lab.answer("up")
    assert first["fresh"]
    assert nodes(lab) == {address(1), address(2), address(3)}
    second = lab.answer("up")
    assert (second["fresh"], second["dashboard"]) == (False, first["dashboard"])


def test_the_dashboard_is_reached_by_ssh_alone_and_asks_for_the_token(lab: Lab) -> None:
    url = lab.answer("up")["dashboard"]
    code = "curl -s -o /dev/null -w %{http_code} --max-time 5"
    assert lab.ask("laptop", f"{code} {url}/api/v0/nodes") == "401"
    assert lab.ask("laptop", f"{code} http://{address(1)}:8265/api/v0/nodes") == "000"


def test_hosts_speak_tls_with_each_other(lab: Lab) -> None:
    folder = ".local/state/slipway/hosts-onprem"
    greeting = f"""
import os, socket, ssl
for trusted in ("{folder}/authority.pem", None):
    context = ssl.create_default_context(cafile=trusted and os.path.expanduser("~/" + trusted))
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("{address(1)}", 6379), 5)
    try:
        print(context.wrap_socket(plain, server_hostname="{address(1)}").version())
    except ssl.SSLCertVerificationError as error:
        print(error.reason)
plain = socket.create_connection(("{address(1)}", 6379), 5)
plain.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
print(plain.recv(100)[3:4] == bytes([4]))  # a frame of settings, as from one that speaks plainly
"""
    script = f"{sys.executable} - <<'END'\n{greeting}\nEND"
    assert lab.ask("laptop", script).split() == ["TLSv1.3", "CERTIFICATE_VERIFY_FAILED", "False"]
    keys = "stat -c %a ~/.slipway/tls/authority.key ~/.slipway/tls/node.key"
    assert lab.ask("host2", keys).split() == ["600", "600"]


def test_a_run_goes_on_when_a_host_dies_and_another_takes_its_place(lab: Lab) -> None:
    run = lab.slipway("run", "m", "--until", "train", "--json")
    assert run.stderr is not None
    told = []
    for line in run.stderr:
        told.append(line)
        if line.startswith("validation after step 150:"):
            lab.script("kill", "host3")
            break
    output, errors = run.communicate(timeout=420)
    assert run.returncode == 0, output + "".join(told) + errors[-3000:]
    assert f"step {STEPS}/{STEPS}" in errors
    attempt, step = resumed(errors)
    assert (attempt, step >= 50) == (2, True)
    assert nodes(lab) >= {address(1), address(2), address(4)}


def resumed(errors: str) -> tuple[int, int]:
    """Attempt and step that the last start of the workers says it begins with."""
    found = re.findall(r"attempt (\d+), .* step ([\d,]+) of", errors)
    return int(found[-1][0]), int(found[-1][1].replace(",", ""))


def test_what_a_run_printed_is_kept(lab: Lab) -> None:
    (run,) = lab.answer("runs")["runs"]
    assert (run["state"], run["step"]) == ("complete", STEPS)
    assert "starting 2 training workers" in str(lab.answer("logs", run["run"])["logs"])


def test_a_sweep_has_its_trials_on_the_hosts(lab: Lab) -> None:
    assert lab.answer("tune", "s", timeout_s=420)["version"] == 1
    kinds = [run["stage"] for run in lab.answer("runs")["runs"] if run["model"] == "s"]
    assert sorted(kinds) == ["train", "train", "tune"]


def test_rays_own_command_submits_a_job_by_hand(lab: Lab) -> None:
    words = shlex.join([sys.executable, str(ROOT / "slipway.py"), "env"])
    script = f'cd project && eval "$(PYTHONPATH={ROOT} {words})" && ray job submit -- hostname -I'
    assert address(1) in lab.ask("laptop", script, timeout_s=180)


def test_services_answer_at_the_laptops_own_address(lab: Lab) -> None:
    lab.answer("promote", "m")
    served = lab.answer("serve", "m")
    assert served["url"] == "http://127.0.0.1:8000"
    answer = lab.answer("predict", "m", "The", "-p", "max_new_tokens=4")
    assert answer["version"] == 1
    assert asked(lab, "") == "401"
    assert asked(lab, token_of(lab)) == "200"


def token_of(lab: Lab) -> str:
    """The services' own, as it is found on the laptop."""
    return lab.ask(
        "laptop", f"awk '!/^#/ {{print $2}}' {lab.answer('serve')['token_file']}"
    ).strip()


def asked(lab: Lab, token: str) -> str:
    """The status that the services answer the laptop with."""
    words = 'curl -s -o /dev/null -w %{http_code} --max-time 30 -d \'{"inputs": "The"}\' '
    words += f"-H 'Content-Type: application/json' -H 'Authorization: Bearer {token}' "
    return lab.ask("laptop", f"{words} http://127.0.0.1:8000/models/m")


def test_the_heads_processes_may_die_under_a_run_and_services(lab: Lab) -> None:
    token = token_of(lab)
    run = lab.slipway("run", "k", "--until", "train", "--json")
    wait_for("steps", lambda: last_step(lab, "k") > 50, 120)
    lab.ask("host1", "pkill -KILL -f '[g]cs_server|[d]ashboard.py|[m]onitor.py'")
    began, before, statuses = time.monotonic(), last_step(lab, "k"), []
    while time.monotonic() < began + 20:
        statuses.append(asked(lab, token))
        time.sleep(0.5)
    assert statuses == ["200"] * len(statuses)
    # some seconds' worth, for what was done before may be stored after
    wait_for("new steps", lambda: last_step(lab, "k") > before + 500, began + 60 - time.monotonic())
    output, errors = run.communicate(timeout=420)
    assert run.returncode == 0, output + errors[-3000:]
    assert "attempt 2" not in errors  # nothing was trained again
    lab.answer("stop", "m")


def last_step(lab: Lab, model: str) -> int:
    """Of a model's training, by what is stored."""
    found = [run for run in lab.answer("runs")["runs"] if run["model"] == model]
    return int(found[0]["step"] or 0) if found else 0


def test_a_link_that_was_cut_is_found_again(lab: Lab) -> None:
    lab.script("cut", "laptop")
    (refused,) = lab.answer("status", code=1, timeout_s=120)["errors"]
    assert address(1) in refused["message"]
    lab.answer("runs", timeout_s=120)  # what the storage knows
    lab.script("heal", "laptop")
    wait_for("the tunnel", lambda: lab.answer("status")["cluster"] == "hosts", 60)


def test_secrets_are_in_no_argument_and_no_log(lab: Lab) -> None:
    words = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert not any(value in words for value in SECRETS.values())
    for host in ("host1", "host2"):
        script = f"grep -rlF -e {SECRETS['s3/secret_key']} /tmp/ray/ || true"
        assert lab.ask(host, script) == ""
    kept = [path for path in lab.laptop.rglob("*") if path.is_file()]
    holders = [path.name for path in kept if SECRETS["s3/secret_key"].encode() in path.read_bytes()]
    assert holders == ["secret_key"]


def test_down_leaves_nothing(lab: Lab) -> None:
    lab.script("start", "host3")
    assert lab.answer("down", "-y")["ended"] > 0
    for number in (1, 2, 3, 4):
        assert ray_on(lab, number) == ""
        left = lab.ask(f"host{number}", "ls -A ~/.slipway /tmp; cat ~/.bashrc")
        assert "token" not in left
        assert "secrets" not in left
        assert "slipway/environment" not in left
        assert "ray" not in left
    assert not (lab.laptop / ".local/state/slipway/hosts-onprem").exists()
    assert lab.answer("status")["cluster"] is None
    assert lab.answer("down", "-y")["ended"] == 0
