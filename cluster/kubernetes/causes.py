"""What messages mean: a pattern, the cause and the remedy. The first that matches is taken.

The texts are those of Kubernetes 1.32, Karpenter, the cluster autoscaler, the clouds, KubeRay 1.7
and Kueue. ``%(name)s`` stands for a group of the pattern, ``%(all)s`` for the whole match.
"""

from __future__ import annotations

import re

from cluster.clouds import explain_cloud

TABLE: tuple[tuple[str, str, str], ...] = (
    (
        r"exceeded quota: (?P<quota>[\w.-]+)(?:.*?requested: (?P<asked>[^ ]+?),)?",
        "the quota %(quota)s of the namespace is used up (this asks for %(asked)s)",
        "end what is not needed, or ask for more: kubectl describe quota",
    ),
    (
        r"insufficient (?:unused )?quota for (?P<resource>[\w./-]+)",
        "the queue is full: no %(resource)s is left of its quota",
        "it starts when others end; kubectl get workloads shows who is before it",
    ),
    (
        r"LocalQueue (?P<queue>[\w.-]+) doesn't exist",
        "there is no queue %(queue)s in the namespace",
        "name one in cluster.provider.queue: kubectl get localqueues",
    ),
    (
        r"ClusterQueue (?P<queue>[\w.-]+) (?:is inactive|doesn't exist)",
        "the queue's ClusterQueue %(queue)s is not there or not active",
        "its administrator looks at: kubectl describe clusterqueue %(queue)s",
    ),
    (
        r'secrets? "(?P<name>[^"]+)" not found',
        "the Secret %(name)s is missing",
        "kubectl create secret generic %(name)s --from-file=KEY=FILE",
    ),
    (
        r"couldn't find key (?P<key>[\w.-]+) in Secret [\w-]+/(?P<name>[\w.-]+)",
        "the Secret %(name)s has no key %(key)s",
        "write {secret: %(name)s/KEY} for a key that it has, or add the key",
    ),
    (
        r"references non-existent secret key: (?P<key>[\w.-]+)",
        "a Secret has no key %(key)s",
        "write {secret: NAME/KEY} for a key that it has, or add the key",
    ),
    (
        r"no PriorityClass with name (?P<name>[\w.-]+) was found",
        "there is no PriorityClass %(name)s",
        "name another in cluster.provider.priority (kubectl get priorityclasses), or its "
        "administrator makes them: kubectl apply -f k8s/shared/priorities.yaml",
    ),
    (
        r'serviceaccount "(?P<name>[^"]+)" not found',
        "there is no ServiceAccount %(name)s in the namespace",
        "kubectl get serviceaccounts; cluster.provider.pod: {spec: {serviceAccountName: NAME}} "
        "names it",
    ),
    (
        r'configmap "(?P<name>[^"]+)" not found',
        "the ConfigMap %(name)s is missing",
        "slipway up makes it again",
    ),
    (
        r"(?i)unauthorized|authentication required|pull access denied|requested access.*denied",
        "the registry refuses to give the image",
        "name its Secret: cluster.provider.pod: {spec: {imagePullSecrets: [{name: NAME}]}}",
    ),
    (
        r"manifest unknown|manifest for \S+ not found|: not found(?:$|: )",
        "the registry has no such image",
        "check cluster.provider.image, and that it was pushed",
    ),
    (
        r"InvalidImageName|couldn't parse image",
        "the image's name is not valid",
        "check cluster.provider.image",
    ),
    (
        r"ErrImageNeverPull",
        "the image is not on the node, and may not be pulled",
        "put it there (kind load docker-image IMAGE, minikube image load IMAGE), or leave "
        "imagePullPolicy: Never away in cluster.provider.pod",
    ),
    (
        r"ErrImagePull|ImagePullBackOff|Failed to pull image|Back-off pulling image",
        "the image cannot be pulled",
        "is cluster.provider.image right, and does the registry answer from the nodes?",
    ),
    (
        r'unbound immediate PersistentVolumeClaims|persistentvolumeclaim "[^"]+" not found',
        "a volume is not bound",
        "kubectl get pvc shows which; is there a default StorageClass?",
    ),
    (
        r"InsufficientInstanceCapacity|UnfulfillableCapacity|ZONE_RESOURCE_POOL_EXHAUSTED"
        r"|InsufficientHostCapacity|GCE_STOCKOUT|SkuNotAvailable|AllocationFailed",
        "the cloud has no such machine to give now (%(all)s)",
        "it is tried again; name alternatives (accelerators: [H100:8, A100:8]), other zones, or "
        "spot: false",
    ),
    (
        r"VcpuLimitExceeded|MaxSpotInstanceCountExceeded|QUOTA_EXCEEDED|QuotaExceeded",
        "the cloud account's own quota is used up (%(all)s)",
        "ask the cloud for more of this kind of machine in this region",
    ),
    (
        r"max node group size reached|max cluster .{0,20}limit reached"
        r"|in backoff after failed scale-up|exceed limits? for nodepool",
        "the nodes of this kind are at their largest number",
        "raise the bound of the node group in the cloud, or end what runs on it",
    ),
    (
        r"Insufficient (?P<resource>(?:nvidia|amd)\.com/gpu)",
        "no node has that many accelerators free",
        "wait, end another run, or ask for fewer to a node: kubectl describe nodes",
    ),
    (
        r"didn't match Pod's node affinity/selector|incompatible with nodepool",
        "no node carries the labels of these accelerators, or of spot capacity",
        "is there a node pool of them? kubectl get nodes --show-labels; "
        "cluster.provider.platform and the pool's instance: say how nodes are told",
    ),
    (
        r"untolerated taint(?:\(s\))? ?\{(?P<taint>[^:}]+)",
        "the nodes that are free are tainted with %(taint)s",
        "cluster.provider.pod: {spec: {tolerations: [{key: %(taint)s, operator: Exists}]}} "
        "lets pods in",
    ),
    (
        r"Insufficient (?P<resource>cpu|memory|ephemeral-storage|pods)|Too many pods",
        "no node is large enough, or has enough %(resource)s free",
        "ask for a little less than the machine has in the pool's cpus and memory: the system "
        "keeps some",
    ),
    (
        r"violates PodSecurity",
        "the namespace's pod security standard refuses the pod",
        "cluster.provider.pod asks for more than it allows: kubectl describe raycluster",
    ),
    (
        r"FailedCreatePodSandBox: .*(?:network for sandbox|assign an IP|cni)",
        "the node's network has no address for the pod, or no plugin that gives one",
        "its administrator looks at the CNI plugin: kubectl get pods -A -o wide",
    ),
    (
        r"FailedCreatePodSandBox",
        "the node cannot start containers",
        "kubectl describe pod has its words; kubectl cordon NODE and kubectl delete pod POD try "
        "another node",
    ),
    (
        r"No module named '?(?P<module>cluster|jobs|serve|tune|slipway|ray)\b",
        "the image does not hold the module %(module)s",
        "build it with k8s/image/Dockerfile, and name it in cluster.provider.image",
    ),
    (
        r"(?i)version mismatch",
        "the image runs another version of Ray or Python",
        "build it from the checkout that slipway runs from: k8s/image/Dockerfile",
    ),
    (
        r"OOMKilled",
        "it was ended for using more memory than it asked for",
        "raise the pool's memory, or make train.micro_batch smaller",
    ),
    (
        r"CrashLoopBackOff",
        "a container of it ends again and again",
        "kubectl logs POD --all-containers --previous has its last words",
    ),
    (
        r"[Ss]pec is invalid|InvalidRayClusterSpec|InvalidRayClusterMetadata",
        "the operator refuses the cluster",
        "is it KubeRay 1.7? kubectl describe raycluster has its words",
    ),
    (
        r"no nodes available to schedule pods|NotTriggerScaleUp|didn't trigger scale-up",
        "no node can take it, and none would be added for it",
        "kubectl describe pod says why; is there a node pool of this size?",
    ),
)


def explain(message: str) -> tuple[str, str] | None:
    """Cause and remedy of a message, a cloud's too; None if it is not known."""
    for pattern, cause, remedy in TABLE:
        match = re.search(pattern, message)
        if match:
            said = {name: value or "more" for name, value in match.groupdict().items()}
            said["all"] = match[0]
            return cause % said, remedy % said
    return explain_cloud(message)
