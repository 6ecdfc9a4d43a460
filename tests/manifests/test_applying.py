"""``up`` and ``down`` through the official client, against a stand-in for the API."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

from cluster.connection import ClusterError
from cluster.kubernetes.applying import up, why
from cluster.kubernetes.client import Kube, connect
from cluster.spec import load
from tests.manifests.fake_api import FakeApi, serving

SPEC = "high_availability: redis\nenv: {HF: {secret: hf/token}}\nhead: {cpus: 4}"
PROVIDER = "namespace: ml, context: prod"


def kubeconfig(address, names=("prod",)):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": names[0],
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
        "contexts": [{"name": n, "context": {"cluster": "c", "user": "u"}} for n in names],
    }


@pytest.fixture
def api(faults, tmp_path, monkeypatch):
    fake = FakeApi(faults)
    fake.put({"kind": "Secret", "metadata": {"name": "hf"}, "data": {"token": "eA=="}}, "secrets")
    with serving(fake) as address:
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(kubeconfig(address)))
        # read once by the client's modules
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield fake


@pytest.fixture
def spec(spec_of):
    return spec_of(SPEC, provider=PROVIDER)


def kinds(api):
    return sorted(kind for kind, _ in api.objects)


def test_up_makes_everything_and_twice_changes_nothing(api, spec):
    kube = connect(spec.cluster.provider)
    first = up(spec, kube, print)
    assert first.changed[-1] == "RayCluster/acme"
    assert first.unchanged == ()
    versions = {key: each["metadata"]["resourceVersion"] for key, each in api.objects.items()}
    second = up(spec, kube, print)
    assert second.changed == ()
    assert second.unchanged == first.changed
    assert versions == {k: each["metadata"]["resourceVersion"] for k, each in api.objects.items()}


def test_up_leaves_the_number_of_workers_to_the_autoscaler(api, spec_of):
    spec = spec_of("pools: [{name: cpu, nodes: 0..4, cpus: 4}]", provider=PROVIDER)
    kube = connect(spec.cluster.provider)
    up(spec, kube, print)
    (group,) = api.objects["rayclusters", "acme"]["spec"]["workerGroupSpecs"]
    group |= {"replicas": 3, "scaleStrategy": {"workersToDelete": ["acme-cpu-worker-x"]}}
    assert up(spec, kube, print).changed == ()
    smaller = spec_of("pools: [{name: cpu, nodes: 0..2, cpus: 4}]", provider=PROVIDER)
    up(smaller, kube, print)
    (group,) = api.objects["rayclusters", "acme"]["spec"]["workerGroupSpecs"]
    assert group["replicas"] == 2


def test_up_says_which_pods_keep_the_old_settings(api, spec_of):
    pools = "pools: [{name: cpu, nodes: 0..4, cpus: 4}, {name: other, nodes: 0..4, cpus: 4}]"
    kube = connect(spec_of(pools, provider=PROVIDER).cluster.provider)

    def notes(cluster):
        lines = []
        up(spec_of(cluster, provider=PROVIDER), kube, lines.append)
        return [line.split(": KubeRay")[0] for line in lines if "keep the old" in line]

    assert notes(pools) == []
    for name, group in (("acme-head", "headgroup"), ("acme-cpu-x", "cpu")):
        labels = {"ray.io/cluster": "acme", "ray.io/group": group}
        api.put({"kind": "Pod", "metadata": {"name": name, "labels": labels}}, "pods")
    told = "note: pods that are there keep the old settings"
    assert notes(pools) == []
    assert notes(pools.replace("0..4", "0..5")) == []
    assert notes(pools.replace("cpus: 4}", "cpus: 4, memory: 9Gi}")) == [f"{told} (cpu)"]
    assert notes(f"{pools}\nenv: {{A: b}}") == [f"{told} (headgroup, cpu)"]
    del api.objects["pods", "acme-head"]
    renamed = f"{pools.replace('name: cpu', 'name: new')}\nenv: {{A: b}}"
    assert notes(renamed) == [f"{told} (cpu)"]  # of a pool that is no more


def test_tokens_are_made_once_and_differ(api, spec):
    up(spec, connect(spec.cluster.provider), print)
    token = api.objects["secrets", "acme-ray-token"]["data"]["auth_token"]
    password = api.objects["secrets", "acme-redis"]["data"]["password"]
    assert token != password
    assert len(base64.b64decode(token)) == 64
    up(spec, connect(spec.cluster.provider), print)
    assert api.objects["secrets", "acme-ray-token"]["data"]["auth_token"] == token


def test_what_the_operator_writes_meanwhile_is_no_change(api, spec, monkeypatch):
    kube = connect(spec.cluster.provider)
    up(spec, kube, print)
    cluster = api.objects["rayclusters", "acme"]
    cluster["metadata"]["generation"] = 1

    def apply(document, plural):
        changed = plural == "rayclusters" and "wanted" in str(document)
        cluster["metadata"]["generation"] += changed
        return 200, api.put(cluster, "rayclusters")  # under a new version: of its status

    monkeypatch.setattr(api, "apply", apply)
    document = {"kind": "RayCluster", "metadata": {"name": "acme"}}
    assert not kube.apply(document)
    assert kube.apply(document | {"spec": {"rayVersion": "wanted"}})


def test_policies_are_there_before_any_pod(api, spec):
    up(spec, connect(spec.cluster.provider), print)
    patched = [line.split("?")[0] for line in api.requests if line.startswith("patch")]
    assert "networkpolicies" in patched[0]
    assert "rayclusters" in patched[-1]
    assert all("fieldValidation=Strict" in line for line in api.requests if "patch" in line)


def test_waiting_is_bounded_and_says_why(api, spec):
    api.ready = False
    pod = {
        "kind": "Pod",
        "metadata": {"name": "acme-head-x", "labels": {"slipway/cluster": "acme"}},
        "status": {
            "phase": "Pending",
            "containerStatuses": [
                {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pull"}}}
            ],
        },
    }
    api.put(pod, "pods")
    lines = []
    with pytest.raises(ClusterError, match="not ready in time:\n  acme-head-x: the image cannot"):
        up(spec, connect(spec.cluster.provider), lines.append, timeout_s=0.5)
    assert sum("the image cannot be pulled" in line for line in lines) == 1


def test_what_is_missing_is_said_all_at_once(api, spec_of):
    spec = spec_of("env: {A: {secret: none}, B: {secret: hf/other}}", provider=PROVIDER)
    with pytest.raises(ClusterError) as caught:
        up(spec, connect(spec.cluster.provider), print)
    assert "key other of Secret hf; Secret none with value" in str(caught.value)
    assert kinds(api) == ["namespaces", "secrets"]


def test_the_keys_of_the_storage_are_looked_for_by_their_names(api, spec_of, tmp_path):
    spec = spec_of(provider=PROVIDER)
    path = tmp_path / "cluster.yaml"
    storage = "storage: {url: s3://acme/prod, credentials: {secret: s3}}"
    path.write_text(path.read_text().replace("storage: s3://acme/prod", storage))
    spec, kube = load(path), connect(spec.cluster.provider)
    with pytest.raises(ClusterError, match="Secret s3 with access_key, secret_key"):
        up(spec, kube, print)
    keys = {"access_key": "eA==", "secret_key": "eA=="}
    api.put({"kind": "Secret", "metadata": {"name": "s3"}, "data": keys}, "secrets")
    assert up(spec, kube, print).changed


def test_another_cluster_of_the_name_is_left_alone(api, spec, tmp_path):
    kube = connect(spec.cluster.provider)
    up(spec, kube, print)
    path = tmp_path / "cluster.yaml"
    path.write_text(path.read_text().replace("s3://acme/prod", "s3://acme/other"))
    with pytest.raises(ClusterError, match="is there already, with its storage at s3://acme/prod"):
        up(load(path), kube, print)


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ({"patch rayclusters": (401, "Unauthorized")}, "refuses the credentials"),
        (
            {
                "patch rayclusters": (
                    403,
                    'rayclusters.ray.io "acme" is forbidden: User "eve" cannot patch resource '
                    '"rayclusters" in API group "ray.io" in the namespace "ml"',
                )
            },
            "no right to patch rayclusters in namespace ml; it is in the Role slipway-user",
        ),
        (
            {"patch rayclusters": (400, 'strict decoding error: unknown field "spec.authOptions"')},
            "does not know spec.authOptions",
        ),
    ],
)
def test_refusals_say_what_to_do(api, spec, refusal, message):
    api.refuse = refusal
    with pytest.raises(ClusterError, match=message):
        up(spec, connect(spec.cluster.provider), print)


def test_no_namespace(api, spec):
    del api.objects["namespaces", "ml"]
    with pytest.raises(ClusterError, match="there is no namespace ml"):
        up(spec, connect(spec.cluster.provider), print)
    assert "patch" not in " ".join(api.requests)


def test_no_operator(api, spec):
    del api.groups["ray.io/v1"]
    with pytest.raises(ClusterError, match=r"operator is absent or too old.*helm install"):
        up(spec, connect(spec.cluster.provider), print)
    assert kinds(api) == ["namespaces", "secrets"]


def test_one_may_work_without_reading_secrets(api, spec):
    api.refuse["get secrets"] = (403, "forbidden")
    assert up(spec, connect(spec.cluster.provider), print).changed


def test_secrets_are_never_printed(api, spec, capsys):
    up(spec, connect(spec.cluster.provider), print)
    encoded = api.objects["secrets", "acme-ray-token"]["data"]["auth_token"]
    token = base64.b64decode(encoded).decode()
    assert token not in capsys.readouterr().out
    assert token not in json.dumps([line for line in api.requests])


def test_documents_of_kube_are_plain(api, spec):
    kube = connect(spec.cluster.provider)
    assert isinstance(kube, Kube)
    assert kube.get("Pod", "none") is None
    assert kube.find("Pod") == []


def test_render_prints_exactly_what_up_applies(api, spec, tmp_path, capsys):
    from cluster import verbs
    from cluster.request import Request

    verbs.render(Request(tmp_path / "cluster.yaml"), spec=False)
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    up(spec, connect(spec.cluster.provider), print)
    stored = {
        (each["kind"], each["metadata"]["name"]): {
            key: value for key, value in each.items() if key != "status"
        }
        for (kind, _), each in api.objects.items()
        if kind not in ("namespaces", "secrets")
    }
    for each in stored.values():
        del each["metadata"]["resourceVersion"]
    assert {(each["kind"], each["metadata"]["name"]): each for each in printed} == stored


def test_a_full_queue_is_a_reason_and_so_is_none(api, spec_of):
    spec = spec_of("pools: [{name: cpu, cpus: 4}]", provider=f"{PROVIDER}, queue: team-a")
    metadata = {"name": "acme", "labels": {"slipway/cluster": "acme"}}
    api.put({"metadata": metadata, "status": {"state": "suspended"}}, "rayclusters")
    kube = connect(spec.cluster.provider)
    said = "couldn't assign flavors to pod set head: insufficient unused quota for cpu"
    condition = {"type": "QuotaReserved", "status": "False", "message": said}
    for name, owner in (("mine", "acme"), ("other", "beta")):
        owners = [{"kind": "RayCluster", "name": owner}]
        metadata = {"name": name, "ownerReferences": owners}
        api.put({"metadata": metadata, "status": {"conditions": [condition]}}, "workloads")
    assert [str(r)[:30] for r in why(spec, kube)] == ["mine: the queue is full: no cp"]
    del api.groups["kueue.x-k8s.io/v1beta1"]
    with pytest.raises(ClusterError, match="has no Kueue"):  # what was true before is not kept
        why(spec, connect(spec.cluster.provider))
