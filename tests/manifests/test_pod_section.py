"""``provider.pod``: what the spec does not foresee, merged into the pods that are rendered."""

from __future__ import annotations

from cluster.kubernetes.documents import documents
from cluster.kubernetes.raycluster import raycluster
from cluster.kubernetes.rayjob import rayjob
from tests.manifests.test_raycluster import POOLS, pod_of, workers


def test_a_pod_section_is_merged_into_every_pod(spec_of, faults):
    section = """pod: {metadata: {annotations: {a: b}}, spec: {
      nodeSelector: {disk: "yes"}, tolerations: [{key: ours, operator: Exists}],
      serviceAccountName: trainer, containers: [{name: ray, env: [{name: E, value: "1"}],
      volumeMounts: [{name: data, mountPath: /data}]}],
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]}}"""
    spec = spec_of(POOLS, provider=section.replace("\n", " "))
    assert faults(documents(spec)) == []
    document = raycluster(spec)["spec"]
    for group in (document["headGroupSpec"], *document["workerGroupSpecs"]):
        pod = pod_of(group)
        assert group["template"]["metadata"]["annotations"] == {"a": "b"}
        assert group["template"]["metadata"]["labels"]["slipway/cluster"] == "acme"
        assert pod["nodeSelector"] == {"disk": "yes"}
        (container,) = pod["containers"]
        assert container["image"] == "r.acme.com/slipway:1"
        assert {"name": "E", "value": "1"} in container["env"]
        assert [v["name"] for v in pod["volumes"]][-1] == "data"
    gpu = pod_of(document["workerGroupSpecs"][0])
    assert {"key": "ours", "operator": "Exists"} in gpu["tolerations"]
    assert len(gpu["tolerations"]) == 4


def test_another_source_or_value_takes_the_place_of_the_rendered_one(spec_of, faults):
    section = """pod: {spec: {volumes: [{name: scratch, hostPath: {path: /mnt}},
      {name: shared-memory, emptyDir: {sizeLimit: 1Gi}}],
      containers: [{name: ray, livenessProbe: {exec: {command: ["true"]}, periodSeconds: 9}, env: [
      {name: DS_ACCELERATOR, valueFrom: {secretKeyRef: {name: x, key: y}}},
      {name: T, value: plain}]}]}}"""
    spec = spec_of("env: {T: {secret: hf}}" + POOLS, provider=section.replace("\n", " "))
    document = raycluster(spec)
    assert faults([document]) == []
    pod = pod_of(workers(document)["cpu"])
    volumes = {each.pop("name"): each for each in pod["volumes"]}
    assert volumes["scratch"] == {"hostPath": {"path": "/mnt"}}
    assert volumes["shared-memory"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    variables = {each.pop("name"): each for each in pod["containers"][0]["env"]}
    assert variables["DS_ACCELERATOR"] == {"valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}
    assert variables["T"] == {"value": "plain"}
    probe = pod["containers"][0]["livenessProbe"]
    assert "httpGet" not in probe
    assert (probe["periodSeconds"], probe["failureThreshold"]) == (9, 120)


def test_what_lets_pods_in_reaches_redis_and_what_submits_a_run(spec_of, faults):
    section = """pod: {metadata: {annotations: {a: b}}, spec: {
      imagePullSecrets: [{name: reg}], tolerations: [{key: team, operator: Exists}],
      nodeSelector: {team: a}, serviceAccountName: trainer, securityContext: {runAsUser: 7},
      runtimeClassName: nvidia, volumes: [{name: own, emptyDir: {}}],
      containers: [{name: ray, env: [{name: E, value: "1"}]}]}}"""
    spec = spec_of("high_availability: redis" + POOLS, provider=section.replace("\n", " "))
    job = rayjob(spec, "tickets", "tickets-train-7f3a")
    (store,) = [each for each in documents(spec) if each["kind"] == "StatefulSet"]
    assert faults([job, store]) == []
    for template in (job["spec"]["submitterPodTemplate"], store["spec"]["template"]):
        pod = template["spec"]
        assert template["metadata"]["annotations"] == {"a": "b"}
        assert template["metadata"]["labels"]
        assert pod["imagePullSecrets"] == [{"name": "reg"}]
        assert pod["tolerations"] == [{"key": "team", "operator": "Exists"}]
        assert pod["nodeSelector"] == {"team": "a"}
        assert pod["serviceAccountName"] == "trainer"
        assert pod["securityContext"]["runAsUser"] == 7
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert "runtimeClassName" not in pod
        assert [each["name"] for each in pod["containers"]] in (["submitter"], ["redis"])
        assert "own" not in {each["name"] for each in pod.get("volumes", [])}
