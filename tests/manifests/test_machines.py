"""The table of clouds' machines, against what they say of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import moto

from cluster.machines import GIB, kinds, table


def test_the_table_agrees_with_what_ec2_says_of_its_machines():
    folder = Path(moto.__file__).parent / "ec2/resources"
    known = json.loads(gzip.decompress((folder / "instance_types.json.gz").read_bytes()))
    rows = [row for kind in kinds().values() for row in kind.machines.get("aws", ())]
    assert rows
    for machine in rows:
        said = known[machine.name]
        assert said["VCpuInfo"]["DefaultVCpus"] == machine.cpus
        assert said["MemoryInfo"]["SizeInMiB"] == machine.memory_bytes * 1024 // GIB
        assert said["GpuInfo"]["Gpus"][0]["Count"] == machine.accelerators
    for name, _, cpus, memory in table()["plain"]["aws"]:
        assert known[name]["VCpuInfo"]["DefaultVCpus"] == cpus
        assert known[name]["MemoryInfo"]["SizeInMiB"] == memory * 1024
