"""EC2, IAM and S3 by moto on the laptop of fake hosts, and hosts that become its machines."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.hosts.lab import LAPTOP, Lab

URL = f"http://{LAPTOP}:9000"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDSLIPWAYHOSTS", "AWS_SECRET_ACCESS_KEY": "hush-hush-slipway"}
LAPTOPS_OWN = "172.31.255.254/16"
SERVER = f"""
import boto3, json, os, pathlib, sys, time
from moto.server import ThreadedMotoServer
os.environ |= {KEYS!r}
ThreadedMotoServer("{LAPTOP}", port=9000, verbose=False).start()
ec2, s3 = (boto3.client(n, endpoint_url="{URL}", region_name="us-east-1") for n in ("ec2", "s3"))
s3.create_bucket(Bucket="bucket")
print("ready", flush=True)
place = pathlib.Path.home() / "instances.json"
while True:
    pages = ec2.get_paginator("describe_instances").paginate()
    groups = [each for page in pages for each in page["Reservations"]]
    found = [each for group in groups for each in group["Instances"]]
    pairs = ec2.describe_key_pairs(IncludePublicKey=True)["KeyPairs"]
    keys = dict((each["KeyName"], each["PublicKey"]) for each in pairs)
    for each in found:
        each["PublicKey"] = keys.get(each.get("KeyName"), "")
    place.with_suffix(".new").write_text(json.dumps(found, default=str))
    place.with_suffix(".new").rename(place)
    time.sleep(0.3)
"""


class Amazon:
    """Gives each running machine a host that has its address, and ends that host with it."""

    def __init__(self, lab: Lab, count: int) -> None:
        self._lab = lab
        self._free = [f"host{number}" for number in range(1, count + 1)]
        self._machines: dict[str, tuple[str, str]] = {}
        self._ended = threading.Event()
        self.most_spot = 0
        """The most spot machines that there were at a time."""

    def instances(self) -> list[Any]:
        """All that were ever started, as EC2 describes them."""
        with suppress(OSError, ValueError):
            return list(json.loads((self._lab.laptop / "instances.json").read_text()))
        return []

    def running(self) -> list[Any]:
        """Those that cost money."""
        live = ("pending", "running", "stopping", "stopped")
        return [each for each in self.instances() if each["State"]["Name"] in live]

    def host(self, kind: str) -> str:
        """The host of the first machine of a kind, such as head."""
        wanted = {"Key": "ray-node-type", "Value": kind}
        names = [each["InstanceId"] for each in self.running() if wanted in each["Tags"]]
        return self._machines[names[0]][0]

    def follow(self) -> None:
        """Until it is ended."""
        while not self._ended.wait(0.3):
            self._follow_once()

    def end(self) -> None:
        """No more hosts come and go."""
        self._ended.set()

    def _follow_once(self) -> None:
        running = {each["InstanceId"]: each for each in self.running()}
        spot = [each for each in running.values() if each.get("InstanceLifecycle") == "spot"]
        self.most_spot = max(self.most_spot, len(spot))
        for name in running.keys() - self._machines.keys():
            host, address = self._free.pop(0), running[name]["PrivateIpAddress"]
            keys = self._lab.folder / host / "home" / ".ssh" / "authorized_keys"
            keys.write_text(running[name]["PublicKey"] + "\n")  # and no other's
            self._give(host, address)
            self._machines[name] = host, address
        for name in self._machines.keys() - running.keys():
            host, address = self._machines.pop(name)
            self._lab.script("kill", host)
            _ip(self._lab, host, "addr", "del", f"{address}/16", "dev", "eth0")
            shutil.rmtree(self._lab.folder / host / "home" / ".slipway", ignore_errors=True)
            self._lab.script("start", host)
            self._free.append(host)

    def _give(self, host: str, address: str) -> None:
        _ip(self._lab, host, "addr", "add", f"{address}/16", "dev", "eth0")
        # Ray takes the address that it would reach the world with
        _ip(self._lab, host, "route", "replace", "default", "via", "10.77.0.1", "src", address)


@contextmanager
def amazon(lab: Lab, count: int) -> Iterator[Amazon]:
    """So many hosts of a lab as the machines that an account may have at a time."""
    _ip(lab, "laptop", "addr", "add", LAPTOPS_OWN, "dev", "eth0")
    lab.environment |= KEYS | {"AWS_ENDPOINT_URL": URL}
    with lab.serving(SERVER):
        found = Amazon(lab, count)
        thread = threading.Thread(target=found.follow)
        thread.start()
        try:
            yield found
        finally:
            found.end()
            thread.join()


def _ip(lab: Lab, host: str, *words: str) -> None:
    """In a host's network namespace, which fake_hosts.sh names after the folder."""
    folder = shlex.quote(str(lab.folder.resolve()))
    prefix = subprocess.check_output(
        ["bash", "-c", f"printf %s {folder} | cksum | cut -c1-4"], text=True
    ).strip()
    subprocess.run(["ip", "-n", f"lab{prefix}-{host}", *words], check=True)
