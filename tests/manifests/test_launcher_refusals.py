"""What Ray's launcher cannot make of a spec is refused from the file alone."""

from __future__ import annotations

import pytest

from cluster.spec import SpecError
from tests.manifests.test_launcher import spec_on

__all__ = ["spec_on"]  # a fixture


@pytest.mark.parametrize(
    ("provider", "cluster", "message"),
    [
        ("{type: aws}", "pools: [{name: p, accelerators: H10}]", 'did you mean "H100"'),
        ("{type: aws}", "pools: [{name: p, accelerators: H100:2}]", "only with H100:1 or H100:8"),
        ("{type: aws}", "pools: [{name: p, accelerators: MI300X:8}]", "aws has no MI300X"),
        ("{type: aws, region: eu west, zones: [a]}", "", '"eu west" is no region of aws; write'),
        ("{type: gcp, project: p, region: us-central1-a}", "", "write one like europe-west4"),
        ("{type: azure, region: West Europe}", "", "write one like westeurope"),
        ("{type: aws, zones: [us-west-2a]}", "", "is no zone of us-east-1"),
        ("{type: gcp, project: p, zones: [us-central1-a, us-central1-b]}", "", "uses one zone"),
        ("{type: gcp, project: p}", "pools: [{name: p, instance: c4}]", "instance: needs cpus:"),
        ("{type: gcp}", "", "needs project: the id of the project"),
        ("{type: aws}", "head: {cpus: 999}", "no machine of aws has 999 CPUs"),
        ("{type: aws}", "env: {a.b: c}", "a shell can export"),
        ("{type: azure}", "pools: [{name: head, cpus: 2}]", "the name of Ray's own type of nodes"),
        ("{type: onprem, head: h, hosts: [a]}", "pools: [{name: head}]", "name of Ray's own type"),
        (
            "{type: gcp, project: p}",
            "pools: [{name: a, accelerators: [L4:1, L4:1]}]",
            "an accelerator twice",
        ),
        (
            "{type: aws}",
            "pools: [{name: a-l4-1, cpus: 2}, {name: a, accelerators: [L4:1, A10G:1]}]",
            '"a-l4-1" is what nodes of pool a-l4-1 are called; rename one',
        ),
        ("{type: onprem, head: h, hosts: [a, b, a]}", "", '"a" is listed twice; a host holds one'),
        (
            "{type: onprem, head: h, hosts: [{address: h}, a]}",
            "",
            '"h" is the head, which holds no workers; leave it out of hosts',
        ),
        ("{type: aws}", "high_availability: redis", "redis is for kubernetes"),
    ],
)
def test_what_a_cloud_cannot_give_is_refused_with_its_line(spec_on, provider, cluster, message):
    with pytest.raises(SpecError) as caught:
        spec_on(provider, cluster + "\n")
    (problem,) = caught.value.problems
    assert message in problem.message
    assert problem.line
