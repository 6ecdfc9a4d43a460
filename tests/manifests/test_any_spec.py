"""Every valid spec on Kubernetes renders to documents that Kubernetes and KubeRay take."""

from __future__ import annotations

import os

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cluster.kubernetes.documents import documents, service_documents
from cluster.kubernetes.rayjob import rayjob
from cluster.machines import kinds
from cluster.spec import SpecError, load
from tests.manifests.rules import broken_rules

names = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
ranges = st.tuples(st.integers(0, 3), st.integers(1, 5)).map(
    lambda pair: f"{min(pair)}..{max(pair)}"
)
accelerators = st.lists(
    st.tuples(st.sampled_from(sorted(kinds())), st.sampled_from([1, 2, 4, 8])).map(
        lambda pair: f"{pair[0]}:{pair[1]}"
    ),
    min_size=1,
    max_size=3,
    unique=True,
)
memories = st.sampled_from(["512Mi", "8Gi", "10GB", "123456789"])
secrets = names.map(lambda name: {"secret": name})
pools = st.lists(
    st.fixed_dictionaries(
        {"name": names, "nodes": ranges, "cpus": st.integers(1, 256)},
        optional={
            "accelerators": accelerators,
            "memory": memories,
            "spot": st.booleans(),
            "instance": st.just("p5.48xlarge"),
        },
    ),
    max_size=4,
    unique_by=lambda pool: pool["name"],
)
providers = st.fixed_dictionaries(
    {"type": st.just("kubernetes"), "image": st.just("r/slipway:1")},
    optional={
        "namespace": names,
        "queue": names,
        "priority": names,
        "platform": st.sampled_from(["any", "gke", "karpenter", "eks", "aks"]),
        "gateway_class": names,
        "ingress_namespace": names,
        "token": secrets,
        "pod": st.just(
            {
                "metadata": {"annotations": {"a": "no"}},
                "spec": {"tolerations": [{"operator": "Exists"}], "runtimeClassName": "nvidia"},
            }
        ),
    },
)
specs = st.fixed_dictionaries(
    {
        "name": names,
        "cluster": st.fixed_dictionaries(
            {
                "provider": providers,
                "storage": st.just({"url": "s3://bucket/x", "credentials": {"secret": "s3"}}),
                "pools": pools,
                "head": st.just({"cpus": 4, "memory": "6Gi"}),
            },
            optional={
                "high_availability": st.sampled_from(["auto", "off", "redis"]),
                "idle_timeout": st.sampled_from(["90s", "10m", 0, 0.5]),
                "env": st.dictionaries(
                    st.from_regex(r"[A-Z][A-Z_]{0,9}", fullmatch=True), texts | secrets, max_size=3
                ),
            },
        ),
        "models": st.just(
            {
                "m": {"domain": "text", "task": "generation", "data": "builtin:python-docs"}
                | {"serve": {}}
            }
        ),
    },
    optional={"notify": st.fixed_dictionaries({"webhook": secrets})},
)


# EXAMPLES=500 looks harder: other specs every time
EXAMPLES = int(os.environ.get("EXAMPLES", "0"))


@settings(
    max_examples=EXAMPLES or 5,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(spec=specs)
def test_any_spec_renders_to_what_is_accepted(spec, tmp_path_factory, faults):
    path = tmp_path_factory.mktemp("spec") / "cluster.yaml"
    path.write_text(yaml.safe_dump(spec, allow_unicode=True))
    try:
        loaded = load(path)
    except SpecError as error:
        refused = [str(problem) for problem in error.problems if problem.line is None]
        loaded = None
    if loaded is None:
        event("refused")
        assert refused == []  # with a place for every problem; there is nothing to render
        return
    found = documents(loaded) + service_documents(loaded, [])
    found.append(rayjob(loaded, "m", "m-train-7f3a"))
    assert faults(found) == []
    for document in found:
        if document["kind"].startswith("Ray"):
            assert broken_rules(document) == []


@pytest.mark.parametrize("name", ["a-", "head"])
def test_names_that_kubernetes_refuses_are_refused_here(spec_of, name):
    with pytest.raises(SpecError, match=r"cluster\.yaml:\d+: cluster\.pools\[0\]\.name"):
        spec_of(f"pools: [{{name: {name}, cpus: 4}}]")


@pytest.mark.parametrize(
    ("provider", "cluster", "message"),
    [
        ("image: null", "", "needs image"),
        ("namespace: A_B", "", '"A_B" is not a name on Kubernetes'),
        ("token: {secret: t/other}", "", "KubeRay reads the key auth_token"),
        ("queue: q, gateway_class: g", "", "a queue switches off"),
        ("queue: q", "pools: [{name: p, accelerators: [H100:8, L4:1]}]", "must have one count"),
        ("pod: {sepc: {}}", "", 'unknown key; did you mean "spec"?'),
        ("pod: {spec: {restartPolicy: Always}}", "", "must be Never"),
        ("pod: {spec: {containers: [{image: x}]}}", "", "containers with a name"),
        ("pod: {metadata: {labels: null}}", "", "ours cannot be taken away"),
        ("pod: {spec: {containers: null}}", "", "containers with a name"),
        ("pod: {spec: {volumes: null}}", "", "volumes with a name; ours cannot be taken away"),
        ("pod: {spec: {volumes: [data]}}", "", "volumes with a name"),
        ("pod: {spec: {volumes: [{name: spec, emptyDir: {}}]}}", "", "a volume of ours"),
        ("pod: {spec: {containers: [{name: ray, env: null}]}}", "", "list of maps with name"),
        ("pod: {spec: {containers: [{name: ray, ports: null}]}}", "", "with containerPort"),
        ("pod: {spec: {containers: [{name: ray, volumeMounts: {}}]}}", "", "with mountPath"),
        ("pod: {spec: {containers: [{name: ray, image: null}]}}", "", "provider.image"),
        ("", "high_availability: embedded", "alpha gate"),
        ("", "env: {REDIS_PASSWORD: x}", "is set by KubeRay"),
        ("", "env: {'a b': x}", "is not a name of a variable"),
        ("", "pools: [{name: p, accelerators: H1000:8}]", 'did you mean "H100"?'),
        (
            "platform: gke",
            "pools: [{name: p, accelerators: [L4:4, A10G:4], spot: true}]",
            "no spot nodes of platform gke with A10G:4",
        ),
        (
            "platform: gke",
            "pools: [{name: p, accelerators: [MI300X:8, H100:8], spot: true}]",
            "no spot nodes of platform gke with MI300X:8",
        ),
        (
            "platform: eks",
            "pools: [{name: p, accelerators: T4:8, spot: true}]",
            "no spot nodes of platform eks with T4:8",
        ),
        (
            "",
            "pools: [{name: p, accelerators: MI300X:16, spot: true}]",
            "no spot nodes of platform any with MI300X:16",
        ),
        (
            "",
            "pools: [{name: a-l4-1, cpus: 1}, {name: a, accelerators: [L4:1, L4:4]}]",
            "is the name of another pool's group",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_line(spec_of, provider, cluster, message):
    with pytest.raises(SpecError) as caught:
        spec_of(cluster, provider=provider)
    (problem,) = [each for each in caught.value.problems if message in each.message]
    assert problem.line
    assert len(caught.value.problems) == 1
