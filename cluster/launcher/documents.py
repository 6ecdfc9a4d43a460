"""The launcher's document of a spec, and what is made beside it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.documents import Document, read_document
from cluster.launcher import permissions, startup
from cluster.launcher.installation import setup_commands
from cluster.launcher.machines import NodeType, attached, head_type, worker_types
from cluster.launcher.onprem import onprem_document
from cluster.spec.clusters import POOL

if TYPE_CHECKING:
    from cluster.spec import Spec

FILES = Path(__file__).parent
Fill = Callable[["Spec", Document, NodeType], None]


def launcher_documents(spec: Spec) -> list[Document]:
    """What ``up`` makes, in order: on AWS the roles, then what the launcher is given."""
    roles = permissions.roles(spec) if spec.cluster.provider.type == "aws" else []
    return [*roles, launcher_document(spec)]


def launcher_document(spec: Spec) -> Document:
    """What ``ray up`` is given."""
    kind = spec.cluster.provider.type
    if kind == "onprem":
        return onprem_document(spec)
    document = read_document(FILES / f"{kind}.yaml")
    fill, provide = _FILLS[kind]
    document["cluster_name"] = spec.name
    document["idle_timeout_minutes"] = spec.cluster.idle_timeout / 60
    provide(spec, document["provider"])
    if kind == "aws":
        document["auth"] = _auth_aws(spec)
    workers = worker_types(spec)
    # the launcher has no bound that a pool's alternatives share: this one holds for all pools
    document["max_workers"] = sum(pool.nodes.max for pool in spec.cluster.pools)
    types = document["available_node_types"]
    blank = types.pop("worker")
    for node in (head_type(spec), *workers):
        here = types["head"] if node.pool is None else deepcopy(blank)
        here["resources"] = node.resources
        if node.pool is not None:
            here |= {"min_workers": node.least, "max_workers": node.most}
            here["labels"] = {POOL: node.pool}
            if node.priority:
                here["priority"] = node.priority
        fill(spec, here["node_config"], node)
        types[node.name] = here
    document["file_mounts"] = startup.file_mounts(spec)
    install = [] if startup.given_python(spec) else setup_commands()
    document["setup_commands"] = [*install, startup.environment_command(spec)]
    document["head_start_ray_commands"] = startup.head_commands(spec)
    document["worker_start_ray_commands"] = startup.worker_commands(spec)
    return document


def key_name(spec: Spec) -> str:
    """The name of the key pair on EC2."""
    return f"slipway-{spec.name}"


def _auth_aws(spec: Spec) -> Document:
    """The key is the cluster's own, made by ``up``."""
    wanted: Any = spec.cluster.provider
    return {"ssh_user": wanted.user, "ssh_private_key": startup.own_file(spec, "key")}


def _provide_aws(spec: Spec, provider: Document) -> None:
    wanted: Any = spec.cluster.provider
    provider["region"] = wanted.region
    if wanted.zones:
        provider["availability_zone"] = ",".join(wanted.zones)
    provider["security_group"] = {"GroupName": permissions.group_name(spec)}
    if wanted.security_group:
        del provider["security_group"]
    if wanted.private:
        provider["use_internal_ips"] = True


def _fill_aws(spec: Spec, config: Document, node: NodeType) -> None:
    wanted: Any = spec.cluster.provider
    kind = "head" if node.pool is None else "worker"
    config["InstanceType"] = node.machine
    config["KeyName"] = key_name(spec)
    config["IamInstanceProfile"] = {"Name": permissions.role(spec, kind)}
    config["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] = wanted.disk_gb
    if wanted.image:
        config["ImageId"] = wanted.image
    if wanted.security_group:
        config["SecurityGroupIds"] = [wanted.security_group]
    if node.spot:
        terms = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        config["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": terms}


def _provide_gcp(spec: Spec, provider: Document) -> None:
    wanted: Any = spec.cluster.provider
    provider["region"] = wanted.region
    provider["availability_zone"] = (wanted.zones or (f"{wanted.region}-a",))[0]
    provider["project_id"] = wanted.project


def _fill_gcp(spec: Spec, config: Document, node: NodeType) -> None:
    wanted: Any = spec.cluster.provider
    config["machineType"] = node.machine
    disk = config["disks"][0]["initializeParams"]
    disk["diskSizeGb"] = wanted.disk_gb
    if wanted.image:
        disk["sourceImage"] = wanted.image
    name = attached(node)
    if name and node.accelerator:
        count = node.accelerator.count
        config["guestAccelerators"] = [{"acceleratorType": name, "acceleratorCount": count}]
    if node.accelerator or node.spot:
        config["scheduling"] = {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
    if node.spot:
        config["scheduling"] |= {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
        }


def _provide_azure(spec: Spec, provider: Document) -> None:
    wanted: Any = spec.cluster.provider
    provider["location"] = wanted.region
    provider["resource_group"] = wanted.resource_group
    if wanted.subscription:
        provider["subscription_id"] = wanted.subscription
    if wanted.zones:
        provider["availability_zone"] = ",".join(wanted.zones)


def _fill_azure(spec: Spec, config: Document, node: NodeType) -> None:
    wanted: Any = spec.cluster.provider
    parameters = config["azure_arm_parameters"]
    parameters["vmSize"] = node.machine
    parameters["osDiskSize"] = wanted.disk_gb
    if wanted.image:
        parameters["imageId"] = wanted.image
    if node.spot:
        parameters |= {"priority": "Spot", "evictionPolicy": "Delete"}


_FILLS: dict[str, tuple[Fill, Callable[[Spec, Document], None]]] = {
    "aws": (_fill_aws, _provide_aws),
    "gcp": (_fill_gcp, _provide_gcp),
    "azure": (_fill_azure, _provide_azure),
}
